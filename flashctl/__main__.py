"""`python -m flashctl` and the `flashctl` script."""

from __future__ import annotations

import sys

from flashctl.cli.app import main as run

__all__ = ["main"]


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run())


if __name__ == "__main__":
    main()
