"""Values that the shell completes: profiles, fields, events, forms."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flashctl.cli.decode import _complete_fields as decode_fields
from flashctl.cli.decode import _complete_fork, _complete_kind
from flashctl.cli.watch import _complete_event, _complete_output, _complete_target
from flashctl.cli.watch import _complete_fields as watch_fields


def test_values_of_watch() -> None:
    assert _complete_target("base") == ["base-mainnet", "base-sepolia"]
    assert _complete_output("j") == ["json"]
    assert set(_complete_event("re")) >= {"replaced", "rewound", "reorg"}
    assert watch_fields("block,gas_u") == ["block,gas_used"]


def test_values_of_decode() -> None:
    assert decode_fields("hash,maxF") == ["hash,maxFeePerGas", "hash,maxFeePerBlobGas"]
    assert _complete_kind("r") == ["receipt", "rlp"]
    assert _complete_fork("jo") == ["jovian"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("flashctl watch --until ev", "event:gap"),
        ("flashctl watch unichain-s", "unichain-sepolia"),
        ("flashctl decode --fields signingH", "signingHash"),
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
