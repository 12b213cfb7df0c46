"""The files of one run are distinct: none is written twice, or read while it is written.

A second writer, or a reader of its own output, would destroy a recording that cannot be made again.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TextIO

from flashctl.errors import UsageError
from flashctl.watch.config import WatchConfig

__all__ = ["check_distinct"]


def check_distinct(config: WatchConfig) -> None:
    """Hold `--record`, `--plot`, `--replay` and what the shell redirects to against each other.

    Raises:
        UsageError: Two of them are one file, by whatever links.
    """
    recording = config.recording
    written = [("--record", recording.path), ("--plot", config.output.plot)]
    files = [(flag, path) for flag, path in written if path is not None and str(path) != "-"]
    replay = recording.replay
    named = files if replay is None or str(replay) == "-" else [*files, ("--replay", replay)]
    for position, (flag, path) in enumerate(files):
        for other, its_path in named[position + 1 :]:
            if _is_same(path, Path(its_path)):
                raise UsageError(f"{flag} and {other} name the same file", hint="name another one")
        redirected = {"stdin": sys.stdin if str(replay) == "-" else None, "stdout": sys.stdout}
        for name, stream in redirected.items():
            if stream is not None and _is_open_as(path, stream):
                raise UsageError(f"{flag} {path} is the file of {name} too", hint="name another one")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one.absolute() == other.absolute()


def _is_open_as(path: Path, stream: TextIO) -> bool:
    """Whether the shell has redirected a standard stream to the regular file at `path`."""
    try:
        status = os.fstat(stream.fileno())
        return stat.S_ISREG(status.st_mode) and os.path.samestat(path.stat(), status)
    except (OSError, ValueError):
        return False
