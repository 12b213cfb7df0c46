"""One table of ports: flags, peers and the devnet agree."""

from __future__ import annotations

import re
from pathlib import Path

import flashctl
from flashctl import default_ports
from flashctl.devnet.config import Ports


def test_no_other_module_states_a_default_port() -> None:
    ports = {str(getattr(default_ports, name)) for name in default_ports.__all__}
    root = Path(flashctl.__file__).parent
    numbers = "|".join(ports)
    default = re.compile(rf'(?:= |\] = .*:)({numbers})"?$', re.MULTILINE)
    for path in root.rglob("*.py"):
        if path.name != "default_ports.py":
            assert default.search(path.read_text()) is None, path


def test_no_two_surfaces_of_a_devnet_share_a_port() -> None:
    ports = [getattr(Ports(), name) for name in Ports.__slots__]
    assert len(set(ports)) == len(ports) == len(default_ports.__all__)
