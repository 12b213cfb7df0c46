"""Profiles: TOML files that hold settings per role, under the names of the flags.

    description = "Base Sepolia"
    extends = "base"                     # optional: another profile, whose tables this one refines
    notice = "sends no flashblocks"      # optional: logged when it is used

    [watch]
    url = "wss://sepolia.flashblocks.base.org/ws"

    [rpc]
    upstream_rpc = "https://sepolia.base.org"

One table per role, one key per flag with `-` and `.` written `_`. A name is looked up among the user's
profiles (`$XDG_CONFIG_HOME/flashctl/profiles`), then among those that come with flashctl; a chain's name
alone is its mainnet. Anything with a `/` or ending in `.toml` is a file. A key that no flag has is an error
with a suggestion, because a setting that is silently ignored is found in production.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flashctl.core.settings.files import write_private
from flashctl.core.settings.toml import read_toml
from flashctl.errors import IoError, UsageError

__all__ = [
    "InvalidProfile",
    "Profile",
    "UnknownProfile",
    "load_profile",
    "profile_names",
    "role_settings",
    "save_profile",
    "suggestion",
]

MAX_EXTENDS: Final = 8
"""How many profiles may build on one another; more is a loop."""

_PACKAGE: Final = Path(__file__).resolve().parents[2]
_TOP_LEVEL_KEYS: Final = frozenset({"description", "extends", "notice"})


class UnknownProfile(UsageError):
    """No profile has this name."""

    def __init__(self, name: str, known: Collection[str]) -> None:
        self.name = name
        super().__init__(
            f"no profile named {name!r}",
            hint=suggestion(name, known) or f"profiles: {', '.join(sorted(known)) or 'none found'}",
        )


class InvalidProfile(UsageError):
    """A profile file cannot be used as it stands."""

    def __init__(self, path: Path, problem: str, *, hint: str | None = None) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"profile {path}: {problem}", hint=hint)


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile as read, with what it extends already merged in."""

    name: str
    path: Path
    description: str
    tables: Mapping[str, Mapping[str, Any]]
    """Role to settings."""
    notice: str = ""
    """A notice for users of the profile: the chain behind it stopped streaming, for example."""


def load_profile(name_or_path: str) -> Profile:
    """The profile of that name, or in that file.

    Raises:
        UnknownProfile: If no profile has the name.
        InvalidProfile: If the file is not TOML of the form above.
        IoError: If the file cannot be read.
    """
    path = _find(name_or_path)
    tables: dict[str, dict[str, Any]] = {}
    description = notice = ""
    chain: list[Path] = []
    step: Path | None = path
    while step is not None:
        chain.append(step)
        if len(chain) > MAX_EXTENDS:
            raise InvalidProfile(path, f"extends more than {MAX_EXTENDS} profiles, or itself")
        document = read_toml(step, "profile")
        description = description or _text(document, "description", step)
        notice = notice or _text(document, "notice", step)
        for role, table in document.items():
            if role in _TOP_LEVEL_KEYS:
                continue
            if not isinstance(table, dict):
                raise InvalidProfile(
                    step, f"{role!r} is not a table", hint=f"settings of a role go under [{role}]"
                )
            tables[role] = {**table, **tables.get(role, {})}
        parent = _text(document, "extends", step)
        step = _find(parent) if parent else None
    return Profile(path.stem, path, description, tables, notice)


def role_settings(
    profile: Profile, role: str, known_keys: Collection[str], known_roles: Collection[str]
) -> dict[str, Any]:
    """The table of `role` in `profile`, after checking every name in it; empty when the profile has none.

    Raises:
        InvalidProfile: If the profile has a table of no role, or the table a key of no flag.
    """
    for table in profile.tables:
        if table not in known_roles:
            raise InvalidProfile(
                profile.path, f"unknown table [{table}]", hint=suggestion(table, known_roles)
            )
    settings: dict[str, Any] = {}
    for written, value in profile.tables.get(role, {}).items():
        key = written.replace("-", "_")
        if key in settings:
            raise InvalidProfile(profile.path, f"[{role}] has {key!r} twice, with - and with _")
        settings[key] = value
        if key not in known_keys:
            raise InvalidProfile(
                profile.path, f"[{role}] has no setting {key!r}", hint=suggestion(key, known_keys)
            )
    return settings


def save_profile(path: Path, role: str, settings: Mapping[str, Any]) -> None:
    """Write `settings` into the table of `role` in `path`; None takes a setting out.

    An existing profile's settings of other roles stay, and so do those of this one under names that are not
    in `settings`: a client of a role has a few of its flags. The file is replaced as a whole, and only its
    owner reads it: it names upstreams and where secrets are. `-` is standard output; it and pipes get the one
    table.

    Raises:
        InvalidProfile: If the file exists and is not a profile.
        IoError: If it cannot be written.
    """
    import tomli_w

    is_file = str(path) != "-" and (path.is_file() or not path.exists())
    document = read_toml(path, "profile") if is_file and path.exists() else {}
    kept = document.get(role, {})
    if not isinstance(kept, dict):
        raise InvalidProfile(path, f"{role!r} is not a table", hint=f"settings of a role go under [{role}]")
    others = {key: value for key, value in kept.items() if key.replace("-", "_") not in settings}
    document[role] = others | {key: value for key, value in settings.items() if value is not None}
    text = tomli_w.dumps(document)
    if str(path) == "-":
        sys.stdout.write(text)
        return
    try:
        if is_file:
            write_private(path, text)
        else:
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise IoError(f"cannot write profile {path}: {error.strerror}") from None


def profile_names() -> list[str]:
    """The names `load_profile` knows without being given a path, sorted."""
    return sorted({path.stem for folder in _folders() if folder.is_dir() for path in folder.glob("*.toml")})


def suggestion(word: str, known: Collection[str]) -> str | None:
    """`did you mean ...?` when something in `known` is close to `word`."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else None


def _folders() -> list[Path]:
    """Where profiles live, the user's first.

    Installed from a wheel they sit inside the package; in a checkout they are the folder beside it.
    """
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return [Path(config) / "flashctl" / "profiles", _PACKAGE / "profiles", _PACKAGE.parent / "profiles"]


def _find(name_or_path: str) -> Path:
    if "/" in name_or_path or name_or_path.endswith(".toml"):
        return Path(name_or_path)
    for name in (name_or_path, f"{name_or_path}-mainnet"):
        for folder in _folders():
            candidate = folder / f"{name}.toml"
            if candidate.is_file():
                return candidate
    raise UnknownProfile(name_or_path, profile_names())


def _text(document: Mapping[str, Any], key: str, path: Path) -> str:
    value = document.get(key, "")
    if not isinstance(value, str):
        raise InvalidProfile(path, f"{key!r} is not a text")
    return value
