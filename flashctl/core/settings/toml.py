"""TOML files that people write: profiles and limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from flashctl.errors import IoError, UsageError

__all__ = ["MAX_TOML_BYTES", "read_toml"]

MAX_TOML_BYTES: Final = 1024 * 1024


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The document in a file; `what` names it in errors.

    Raises:
        IoError: If the file cannot be read.
        UsageError: If it is larger than MAX_TOML_BYTES, or no TOML that can be used.
    """
    import tomllib

    try:
        with path.open("rb") as file:
            data = file.read(MAX_TOML_BYTES + 1)
    except OSError as error:
        raise IoError(f"cannot read {what} {path}: {error.strerror}") from None
    if len(data) > MAX_TOML_BYTES:
        raise UsageError(f"{what} {path}: larger than {MAX_TOML_BYTES:,} bytes")
    try:
        return tomllib.loads(data.decode())
    except RecursionError:
        raise UsageError(f"{what} {path}: nested too deeply") from None
    except ValueError as error:  # what tomllib and the decoder raise
        raise UsageError(f"{what} {path}: {error}") from None
