"""pip's configuration: files, sections, variables, in pip's order."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest import mock

import pytest
from pip._internal.configuration import Configuration, get_configuration_files

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.pipconfig import merge_pip_configuration, pip_configuration_files


def test_files_in_pips_order() -> None:
    """Global, user (old and new), site, PIP_CONFIG_FILE: later ones win."""
    assert pip_configuration_files({"PIP_CONFIG_FILE": "/c"}, "/home/u", "/v", "linux") == [
        "/etc/xdg/pip/pip.conf",
        "/etc/pip.conf",
        "/home/u/.pip/pip.conf",
        "/home/u/.config/pip/pip.conf",
        "/v/pip.conf",
        "/c",
    ]
    env = {"XDG_CONFIG_HOME": "/xc", "XDG_CONFIG_DIRS": "/x1:/x2"}
    assert pip_configuration_files(env, "/home/u", None, "linux") == [
        "/x1/pip/pip.conf",
        "/x2/pip/pip.conf",
        "/etc/pip.conf",
        "/home/u/.pip/pip.conf",
        "/xc/pip/pip.conf",
    ]
    assert "/Library/Application Support/pip/pip.conf" in pip_configuration_files({}, "/h", None, "darwin")


@pytest.mark.skipif(sys.platform != "linux", reason="pip's paths differ by platform")
def test_files_are_those_of_pip(tmp_path: Path) -> None:
    """The same list as pip's own, for this interpreter and user."""
    with mock.patch.dict(os.environ, {"HOME": str(tmp_path)}, clear=True):
        expected = [path for paths in get_configuration_files().values() for path in paths]
    assert sorted(pip_configuration_files({}, str(tmp_path), sys.prefix)) == sorted(expected)


def test_the_null_device_switches_all_files_off() -> None:
    """The documented way to run without configuration; variables still count."""
    env = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "https://env"}
    assert pip_configuration_files(env, "/h", "/v") == []
    found = merge_pip_configuration({"/etc/pip.conf": b"[global]\nno-index=1"}, env)
    assert found.index_url == "https://env"
    assert not found.no_index


def test_order_of_files_sections_and_variables() -> None:
    """Later files beat earlier ones, [install] beats [global], variables beat files."""
    contents = {
        "/etc/pip.conf": (
            b"[global]\nindex_url = https://global\nproxy = p:1\n[install]\nfind-links =\n  /a\n  https://b\n"
        ),
        "/h/.config/pip/pip.conf": (
            b"[install]\ntrusted-host = h1 h2\nfind-links = /c\n[global]\nextra-index-url=https://e1\n"
        ),
        "/v/pip.conf": b"[global]\nindex-url=https://site\nno-index = off\n[list]\nformat = x\n",
    }
    found = merge_pip_configuration(contents, {"PIP_EXTRA_INDEX_URL": "https://e2 https://e3"}, home="/h")
    assert found.index_url == "https://site"
    assert found.extra_index_urls == ("https://e2", "https://e3")
    assert found.find_links == ("/c",)
    assert found.trusted_hosts == ("h1", "h2")
    assert found.proxy == "p:1"
    assert not found.no_index
    assert found.names_files


def test_an_empty_value_gives_way() -> None:
    """As in pip: an empty PIP_INDEX_URL or [install] value does not hide [global]."""
    contents = {"/etc/pip.conf": b"[install]\nindex-url =\n[global]\nindex-url = https://g\n"}
    assert merge_pip_configuration(contents, {"PIP_INDEX_URL": ""}).index_url == "https://g"


def test_a_config_file_of_ones_own_replaces_the_users() -> None:
    """pip does not load the user's files if PIP_CONFIG_FILE exists, but global and site ones."""
    contents = {
        "/etc/pip.conf": b"[global]\nproxy = g:1\n",
        "/h/.pip/pip.conf": b"[global]\nindex-url = https://user\n",
        "/c": b"[global]\nextra-index-url = https://c\n",
    }
    found = merge_pip_configuration(contents, {"PIP_CONFIG_FILE": "/c"}, home="/h")
    assert (found.index_url, found.extra_index_urls, found.proxy) == (None, ("https://c",), "g:1")
    del contents["/c"]
    found = merge_pip_configuration(contents, {"PIP_CONFIG_FILE": "/c", "HOME": "/h"})
    assert found.index_url == "https://user"


def test_what_pip_would_obey_and_pkgc_does_not_is_named() -> None:
    """An organisation's constraint or require-hashes must not vanish without a word."""
    contents = {"/etc/pip.conf": b"[global]\nrequire-hashes = yes\n[install]\nno-binary = :all:\n"}
    found = merge_pip_configuration(contents, {"PIP_CONSTRAINT": "c.txt"}, home="/h")
    assert found.require_hashes == "/etc/pip.conf"
    assert found.ignored == ("constraint (PIP_CONSTRAINT)", "no-binary (/etc/pip.conf)")
    found = merge_pip_configuration(contents, {"PIP_REQUIRE_HASHES": "0"}, home="/h")
    assert found.require_hashes is None


def test_paths_start_at_the_callers_home() -> None:
    """Not at the daemon's."""
    env = {"PIP_CERT": "~/ca.pem", "PIP_CLIENT_CERT": "/c.pem"}
    found = merge_pip_configuration({}, env, home="/h")
    assert (found.cert, found.client_cert) == ("/h/ca.pem", "/c.pem")


@pytest.mark.parametrize(
    "data",
    [
        b"index-url = x\n",
        b"[global]\nindex-url\n",
        b"[global]\na=1\n[global]\n",
        b"\xff",
        b"[global]\nno-index=maybe",
    ],
)
def test_broken_files_are_named(data: bytes) -> None:
    """And no line of them is shown: it may hold a password."""
    with pytest.raises(InputError, match=r"/etc/pip\.conf") as caught:
        merge_pip_configuration({"/etc/pip.conf": data}, {})
    assert caught.value.code == "invalid-pip-config"


def test_the_merge_is_pips(tmp_path: Path) -> None:
    """The same files, read by pip itself."""
    user = tmp_path / ".config" / "pip" / "pip.conf"
    user.parent.mkdir(parents=True)
    user.write_text("[global]\nindex-url = https://%(x)s\n[install]\nno_index = yes\n--proxy = q:2\n")
    own = tmp_path / "own.conf"
    own.write_text("[install]\nExtra-Index-URL = https://e\n")
    env = {"HOME": str(tmp_path), "PIP_TRUSTED_HOST": "h"}
    with mock.patch.dict(os.environ, env, clear=True):
        configuration = Configuration(isolated=False)
        configuration.load()
    files = pip_configuration_files(env, str(tmp_path), sys.prefix)
    found = merge_pip_configuration(
        {path: Path(path).read_bytes() for path in files if Path(path).exists()}, env
    )
    assert found.index_url == configuration.get_value("global.index-url") == "https://%(x)s"
    assert found.proxy == configuration.get_value("install.proxy") == "q:2"
    assert found.no_index
    assert found.trusted_hosts == ("h",)
