"""`--check`: a service's settings are read and resolved, and nothing is started."""

from __future__ import annotations

import subprocess
import sys

import pytest

SECRET = "11" * 32


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flashctl", *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["boost", "-P", "devnet", "--builder-url", "http://localhost:4444", "--l2-jwt-token", SECRET],
        ["builder", "-P", "devnet"],
        ["proxy", "-P", "devnet"],
        ["rpc", "-P", "devnet"],
        ["devnet"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_good_settings_say_nothing(arguments: list[str]) -> None:
    done = run(*arguments, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["boost", "-P", "devnet"], "Missing Client JWT secret"),
        (["rpc"], "no flashblocks stream"),
        (["proxy", "-P", "devnet", "--validate", "maybe"], "--validate"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_settings_are_named(arguments: list[str], complaint: str) -> None:
    done = run(*arguments, "--check")
    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[0]
