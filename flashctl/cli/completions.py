"""The shell completion files in `completions/`, as the program itself would print them.

    python -m flashctl.cli.completions completions

They call flashctl at every TAB, so they need no change when a flag is added; a test holds the committed
files to what this writes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from flashctl.cli.app import COMPLETE_VARIABLE

__all__ = ["FILES", "completion_script", "main"]

FILES: Final = {"bash": "flashctl.bash", "zsh": "_flashctl", "fish": "flashctl.fish"}
"""Shell to file, named as each shell's completion folder wants it."""


def completion_script(shell: str) -> str:
    """The completion script for `shell`; zsh wants `#compdef` on the very first line."""
    environment = {**os.environ, COMPLETE_VARIABLE: f"source_{shell}"}
    command = [sys.executable, "-m", "flashctl"]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return printed.strip() + "\n"


def main(folder: Path) -> None:
    """Write all of them into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for shell, name in FILES.items():
        (folder / name).write_text(completion_script(shell), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "completions"))
