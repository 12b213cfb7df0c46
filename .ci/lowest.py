"""Constraints for pip: the lowest version that pyproject.toml declares of each dependency of the product."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
optional = project["optional-dependencies"]
for requirement in [*project["dependencies"], *optional["fast"], *optional["redis"], *optional["plot"]]:
    if found := re.match(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", requirement):
        print(f"{found[1]}=={found[2]}")
