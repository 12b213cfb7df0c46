"""`python -m flashctl` and the `flashctl` script.

The garbage collector rests where it can find nothing: while modules are imported, and at the end, when the
system takes all memory back anyway. Together they were a fifth of the time of `flashctl --help`, and a
quarter of that of one decode.
"""

from __future__ import annotations

import gc
import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and end the process with its exit code."""
    gc.disable()
    _open_standard_streams()
    from flashctl.cli.app import main as run

    gc.freeze()
    gc.enable()
    code = run()
    gc.freeze()
    sys.exit(code)


def _open_standard_streams() -> None:
    """A stream that was closed at the start (`<&-`) reads as empty, or discards what is written; a file
    opened later must not take its place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


if __name__ == "__main__":
    main()
