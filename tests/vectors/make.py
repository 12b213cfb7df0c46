"""Makes the pack of vectors again: `python tests/vectors/make.py state`, or another kind, or `all`.

Needs the oracle of the kind (see README.md beside this file); writes pack/<kind>.jsonl.xz and its entry in
pack/manifest.json.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vectors.packing import write

KINDS = ("state", "blocks", "flashblocks", "transactions", "codec", "edr", "exchanges")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=[*KINDS, "all"])
    chosen = parser.parse_args().kind
    for name in KINDS if chosen == "all" else (chosen,):
        entry = write(importlib.import_module(f"vectors.{name}").kind())
        print(f"{name}: {entry['cases']} cases, {entry['bytes']:,} bytes")


if __name__ == "__main__":
    main()
