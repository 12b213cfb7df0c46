"""`--save-profile`: the settings of a command as it would run, but for what may be a secret."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from flashctl.errors import ExitCode

__all__ = ["save_settings"]

_SECRET_WORDS: Final = ("secret", "jwt_token", "jwt_hex", "api_key", "password", "private_key", "header")
"""Parts of the names of flags whose values are never written down; a header may carry a key."""


def save_settings(path: Path, role: str, keys: Collection[str], values: Mapping[str, Any]) -> int:
    """Write the effective settings of a command, except secrets, to a profile; `-` is standard output."""
    from flashctl.core.settings.profile import save_profile

    settings = {}
    for key in sorted(keys):
        value = values.get(key)
        if value and _may_be_secret(key, value):
            print(f"flashctl: note: {key} may be a secret and was not written", file=sys.stderr)
            continue
        settings[key] = _toml_value(value)
    save_profile(path, role, settings)
    if str(path) != "-":
        print(f"flashctl: wrote [{role}] to {path}; use it with --profile {_argument(path)}", file=sys.stderr)
    return int(ExitCode.OK)


def _argument(path: Path) -> str:
    """The path as `--profile` takes it for a file."""
    text = str(path)
    return text if "/" in text or text.endswith(".toml") else f"./{text}"


def _may_be_secret(key: str, value: Any) -> bool:
    if any(word in key for word in _SECRET_WORDS) and not key.endswith(("_path", "_file", "_http_header")):
        return not isinstance(value, Path)
    texts = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(text, str) and _holds_secret(text) for text in texts)


def _holds_secret(text: str) -> bool:
    """Whether one of the URLs in a text has a part that is not shown elsewhere: a password, a path key."""
    from flashctl.core.net.urls import mask_url

    urls = [url for url in text.split(",") if "://" in url or "@" in url]
    return any("@" in url or "#" in url or "…" in mask_url(url) for url in urls)


def _toml_value(value: Any) -> Any:
    plain = getattr(value, "value", value)  # of an enum
    if plain is None or isinstance(plain, bool | int | float | str):
        return plain
    if isinstance(plain, list | tuple):
        return [_toml_value(item) for item in plain]
    return str(plain)
