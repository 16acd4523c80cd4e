"""`[[index]]` entries of config.toml: names, pins, the default, and rules for pages."""

from __future__ import annotations

import pytest

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.config import Config, parse_config
from pkgc_daemon.inputs.namedindexes import NamedIndex, check_cache_control

PATH = "/home/u/.config/pkgc/config.toml"


def parsed(text: str) -> Config:
    return parse_config(text.encode(), PATH)


def test_every_key_of_an_entry_arrives() -> None:
    """Names are normalized, directories start at the folder of the file."""
    config = parsed(
        """
        [[index]]
        name = "pytorch"
        url = "https://torch.example/whl/cpu"
        explicit = true
        packages = ["Torch", "torch_vision"]
        cache-control = { pages = "Max-Age=600" }
        [[index]]
        url = "mirror"
        default = true
        [[index]]
        url = "~/m"
        """
    )
    assert config.indexes == (
        NamedIndex(
            "pytorch",
            "https://torch.example/whl/cpu",
            explicit=True,
            packages=("torch", "torch-vision"),
            pages="max-age=600",
        ),
        NamedIndex("", "/home/u/.config/pkgc/mirror", default=True),
        NamedIndex("", "~/m"),
    )
    assert config.options == {}


def test_a_list_of_strings_is_as_on_the_command_line() -> None:
    """Every option has a key of its own name (design, section 5)."""
    config = parsed('index = ["corp=https://corp.example/simple", "https://x.example/?a=b", "here"]')
    assert config.indexes == (
        NamedIndex("corp", "https://corp.example/simple"),
        NamedIndex("", "https://x.example/?a=b"),
        NamedIndex("", "/home/u/.config/pkgc/here"),
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[index]\nurl = 'https://x'", r"index must be a list: write \[\[index\]\]"),
        ("index = 'https://x'", "index must be a list"),
        ("index = [3]", "index 1 must be a table or a string"),
        ("index = ['a b=https://x']", "index 1 the name before '='"),
        ("index = ['corp=']", "index 1 must be a URL"),
        ("[[index]]\nname = 'x'", "index 1 has no url"),
        ("[[index]]\nurl = 3", "index 1.url must be a URL"),
        ("[[index]]\nurl = 'ftp://x'", "index 1.url must be an http:, https: or file: URL"),
        ("[[index]]\nurl = 'https://x'\nname = 'a=b'", "index 1.name must be letters"),
        ("[[index]]\nurl = 'https://x'\nformat = 'flat'", "unknown key 'index 1.format'"),
        ("[[index]]\nurl = 'https://x'\ndefault = 'yes'", "index 1.default must be true or false"),
        ("[[index]]\nurl = 'https://x'\npackages = ['a/b']", "'a/b' is none"),
        (
            "[[index]]\nurl = 'https://x'\ncache-control = 'max-age=1'",
            "index 1.cache-control must be a table",
        ),
        ("[[index]]\nurl='https://x'\ncache-control = {files='max-age=1'}", "index 1.cache-control.files"),
        ("[[index]]\nurl='https://x'\ncache-control = {pages=600}", "cache-control.pages must be a string"),
        ("[[index]]\nurl='https://x'\ncache-control = {pages='600'}", "cache-control.pages must be like"),
        ("[[index]]\nurl='https://x'\ndefault = true\nexplicit = true", "both default and explicit"),
        ("index = ['a=https://x', 'a=https://y']", "two indexes have the name 'a'"),
        (
            "[[index]]\nurl='https://x'\ndefault = true\n[[index]]\nurl='https://y'\ndefault = true",
            "more than one index has default",
        ),
        (
            "[[index]]\nurl='https://x'\npackages = ['a']\n[[index]]\nurl='https://y'\npackages = ['A']",
            "'a' is among the packages of two indexes",
        ),
        ("pin-index = ['torch']", "pin-index must be PROJECT=NAME"),
        ("pin-index = ['a b=x']", "'a b' is not a project name"),
        ("pin-index = ['torch=a/b']", "'a/b' is not the name of an index"),
        ("config-settings = ['x']", "config-settings must be KEY=VALUE"),
        ("no-build = 1", "no-build must be true or false"),
        ("[build]\nconcurrent = 0", "build.concurrent must be a whole number"),
        ("[build]\ntimeout = 0", "build.timeout must be a positive number"),
    ],
)
def test_what_is_wrong_is_named(text: str, why: str) -> None:
    """An index that is silently left out, or asked for everything, is a hole."""
    with pytest.raises(InputError, match=why) as caught:
        parsed(text)
    assert caught.value.code == "invalid-config"
    assert caught.value.message.startswith(PATH)


def test_misspelt_keys_have_a_hint() -> None:
    """A misspelt `explicit` would ask the index for everything."""
    for key, meant in (
        ("explict = true", "index 1.explicit"),
        ("cache_control = {}", "index 1.cache-control"),
    ):
        with pytest.raises(InputError) as caught:
            parsed(f"[[index]]\nurl = 'https://x'\n{key}")
        assert caught.value.hint == f"did you mean '{meant}'?"
    with pytest.raises(InputError) as caught:
        parsed("[[indexes]]\nurl = 'https://x'")
    assert caught.value.hint == "did you mean 'index'?"


def test_the_build_table_and_further_options() -> None:
    """Every option of the command line has a key."""
    config = parsed(
        """
        extra = ["cli"]
        all-extras = true
        group = "dev"
        no-default-groups = true
        no-build-isolation = true
        config-settings = ["editable_mode=compat", "x=1=2"]
        pin-index = ["Torch=pytorch"]
        [build]
        concurrent = 3
        timeout = 60
        """
    )
    assert config.build == {"concurrent": 3, "timeout": 60.0}
    assert config.options == {
        "extra": ("cli",),
        "all-extras": True,
        "group": ("dev",),
        "no-default-groups": True,
        "no-build-isolation": True,
        "config-settings": ("editable_mode=compat", "x=1=2"),
        "pin-index": ("Torch=pytorch",),
    }


@pytest.mark.parametrize(
    "good", ["max-age=0", "no-store", "no-cache", "Public, MAX-AGE=600", "no-cache, private"]
)
def test_rules_that_say_something(good: str) -> None:
    """RFC 9111, 5.2.2."""
    assert check_cache_control(good) == good.lower()


@pytest.mark.parametrize(
    "bad", ["", "public", "max-age", "max-age=-1", "max-age=1.5", "maxage=3", "s-maxage=3", "a,"]
)
def test_rules_that_would_be_ignored_are_refused(bad: str) -> None:
    """A rule that does nothing is found months later, by its bill."""
    with pytest.raises(ValueError, match="must"):
        check_cache_control(bad)
