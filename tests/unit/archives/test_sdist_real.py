"""Real sdists of every usual build backend, as publishers packed them: read as Python's tarfile does."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pkgc_daemon.archives.sdist import extract_sdist
from pkgc_daemon.building.project import read_project
from tests.support.sdists import tree_of

pytestmark = [pytest.mark.network, pytest.mark.full, pytest.mark.timeout(600)]

#: Project -> the backend that it is built with (and packed, as a rule).
PROJECTS = {
    "attrs": "hatchling.build",
    "charset-normalizer": None,
    "flit-core": "flit_core.buildapi",
    "hatchling": "hatchling.ouroboros",
    "meson-python": "mesonpy",
    "packaging": "flit_core.buildapi",
    "pdm-backend": "pdm.backend.intree",
    "pluggy": None,
    "poetry-core": "poetry.core.masonry.api",
    "pybind11": None,
    "pyyaml": None,
    "requests": None,
    "rich": "poetry.core.masonry.api",
    "setuptools": "setuptools.build_meta",
    "six": None,
    "wheel": "flit_core.buildapi",
}
#: An old one, packed by Python 2, without pyproject.toml.
OLD = "docopt==0.6.2"


@pytest.fixture(scope="module")
def sdists(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Fetched by pip from where it is configured to look."""
    folder = tmp_path_factory.mktemp("sdists")
    names = [*PROJECTS, OLD]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-input",
        "--no-deps",
        "--dest",
        str(folder),
    ]
    command += ["--no-binary", ",".join(name.partition("==")[0] for name in names), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = sorted(folder.iterdir())
    assert len(found) == len(names)
    return found


def test_real_sdists_are_unpacked_as_tarfile_does(sdists: list[Path], tmp_path: Path) -> None:
    """Being strict must not cost a single project that others can install."""
    (tmp_path / "ours").mkdir()
    for path in sdists:
        ours = Path(extract_sdist(str(path), path.name, str(tmp_path / "ours" / path.name)))
        theirs = tmp_path / "theirs" / path.name
        with tarfile.open(path) as tar:
            tar.extractall(theirs, filter="data")
        assert tree_of(ours) == tree_of(theirs / ours.name), path.name
        assert [one.name for one in theirs.iterdir()] == [ours.name]
        for one in ours.rglob("*"):
            if one.is_file() and not one.is_symlink():
                other = theirs / one.relative_to(ours.parent)
                assert bool(one.stat().st_mode & 0o100) == bool(other.stat().st_mode & 0o100), one
                assert int(one.stat().st_mtime) == max(int(other.stat().st_mtime), 315_619_200), one


def test_real_projects_say_what_they_are(sdists: list[Path], tmp_path: Path) -> None:
    """What is said before the build must be what the file is called."""
    for path in sdists:
        top = extract_sdist(str(path), path.name, str(tmp_path / path.name))
        project = read_project(top)
        stem, _, version = path.name.removesuffix(".tar.gz").rpartition("-")
        name = stem.replace("_", "-").lower()
        assert project["name"] in (name, None)
        assert project["version"] in (version, None)
        expected = PROJECTS.get(name)
        assert expected is None or project["backend"] == expected, path.name
        assert project["legacy"] == (name in ("docopt", "six") or project["backend"].endswith(":__legacy__"))
