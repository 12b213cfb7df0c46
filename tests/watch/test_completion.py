"""Values that the shell completes: profiles, fields, events, forms."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("flashctl watch --until ev", "event:gap"),
        ("flashctl watch --source r", "rpc"),
        ("flashctl watch --output j", "json"),
        ("flashctl watch --stage s", "sealed"),
        ("flashctl watch --color n", "never"),
        ("flashctl watch --on reo", "reorg"),
        ("flashctl watch --type dep", "deposit"),
        ("flashctl watch --log-level de", "debug"),
        ("flashctl watch --fields block,gas_u", "block,gas_used"),
        ("flashctl watch unichain-s", "unichain-sepolia"),
        ("flashctl decode --fields signingH", "signingHash"),
        ("flashctl decode --fields hash,maxFeePerB", "hash,maxFeePerBlobGas"),
        ("flashctl decode --as re", "receipt"),
        ("flashctl decode --fork jo", "jovian"),
        ("flashctl decode --chain base-s", "base-sepolia"),
    ],
)
def test_as_the_shell_asks(words: str, expected: str) -> None:
    environment = {
        **os.environ,
        "_FLASHCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    result = subprocess.run(
        [sys.executable, "-m", "flashctl"], capture_output=True, text=True, timeout=60, env=environment
    )
    assert expected in result.stdout.split()
