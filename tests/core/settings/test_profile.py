"""Profiles: where they are found, what they may contain, and what a mistake in one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashctl.core.settings.profile import (
    InvalidProfile,
    UnknownProfile,
    load_profile,
    profile_names,
    role_settings,
    save_profile,
)
from flashctl.errors import IoError, UsageError


@pytest.fixture
def user_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "flashctl" / "profiles"
    folder.mkdir(parents=True)
    return folder


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_extends_merges_table_by_table_and_key_by_key(user_profiles: Path) -> None:
    write(user_profiles / "chain.toml", 'description = "A"\n[rpc]\na = 1\nb = 2\n[watch]\nurl = "x"\n')
    write(user_profiles / "mine.toml", 'extends = "chain"\n[rpc]\nb = 3\n')
    profile = load_profile("mine")
    assert profile.tables == {"rpc": {"a": 1, "b": 3}, "watch": {"url": "x"}}
    assert profile.description == "A"
    assert {"chain", "mine"} <= set(profile_names())


def test_flag_spelling_is_accepted_in_keys(tmp_path: Path) -> None:
    profile = load_profile(str(write(tmp_path / "p.toml", "[rpc]\nstale-after = 3\n")))
    assert role_settings(profile, "rpc", ["stale_after"], ["rpc"]) == {"stale_after": 3}
    assert role_settings(profile, "boost", [], ["rpc", "boost"]) == {}


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("[rcp]\n", r"unknown table \[rcp\]", "did you mean 'rpc'?"),
        ("[rpc]\nlisten_adr = 1\n", "no setting 'listen_adr'", "did you mean 'listen_addr'?"),
        ("[rpc\n", "line 1", None),
        ("rpc = 3\n", "'rpc' is not a table", None),
        ("extends = 3\n", "'extends' is not a text", None),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, problem: str, hint: str | None) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        path = write(tmp_path / "p.toml", text)
        role_settings(load_profile(str(path)), "rpc", ["listen_addr"], ["rpc"])
    if hint:
        assert caught.value.hint == hint


def test_a_profile_that_extends_itself(user_profiles: Path) -> None:
    write(user_profiles / "loop.toml", 'extends = "loop"\n')
    with pytest.raises(InvalidProfile, match="or itself"):
        load_profile("loop")


def test_unknown_names_and_unreadable_files(user_profiles: Path) -> None:
    write(user_profiles / "base-goerli.toml", "")
    with pytest.raises(UnknownProfile) as caught:
        load_profile("base-gorli")
    assert caught.value.hint == "did you mean 'base-goerli'?"
    with pytest.raises(IoError, match="No such file"):
        load_profile(str(user_profiles / "absent.toml"))


def test_saving_keeps_other_tables(tmp_path: Path) -> None:
    path = write(tmp_path / "p.toml", "[watch]\nx = 1\n")
    save_profile(path, "rpc", {"b": [1, 2], "a": None, "c": "é"})
    assert load_profile(str(path)).tables == {"watch": {"x": 1}, "rpc": {"b": [1, 2], "c": "é"}}
    save_profile(path, "rpc", {"b": None, "d": True})
    assert load_profile(str(path)).tables["rpc"] == {"c": "é", "d": True}
    with pytest.raises(IoError, match="cannot write"):
        save_profile(tmp_path / "absent" / "p.toml", "rpc", {})


def test_saving_refuses_what_is_no_table(tmp_path: Path) -> None:
    path = write(tmp_path / "p.toml", "rpc = 1\n")
    with pytest.raises(InvalidProfile, match="not a table"):
        save_profile(path, "rpc", {"b": 1})


def test_saving_replaces_a_setting_spelled_with_hyphens(tmp_path: Path) -> None:
    path = write(tmp_path / "p.toml", "[rpc]\nhttp-port = 1\n")
    save_profile(path, "rpc", {"http_port": 2})
    assert load_profile(str(path)).tables == {"rpc": {"http_port": 2}}
