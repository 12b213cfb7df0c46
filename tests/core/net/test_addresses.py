"""One parser for every HOST:PORT."""

from __future__ import annotations

import pytest

from flashctl.core.net.addresses import ListenAddress
from flashctl.errors import UsageError

GOOD = {
    "127.0.0.1:9000": ("127.0.0.1", 9000),
    "localhost:0": ("localhost", 0),
    "[::1]:80": ("::1", 80),
    "[::]:65535": ("::", 65535),
}
BAD = [
    "", ":", "host", "host:", "9000", ":9000", "host:x", "host:-1", "host:65536", "host:٩٠٠٠",
    "host:000000080", "::1:80", "[::1]", "[host]:80", "[::1:80", "ho st:80",
    "http://host:80", "user@host:80", "host: 80",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_addresses(text: str) -> None:
    assert ListenAddress.parse(text, "--x") == ListenAddress(*GOOD[text])


@pytest.mark.parametrize("text", BAD)
def test_what_is_none_is_refused_with_the_flag_and_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--x: .* is not HOST:PORT$") as caught:
        ListenAddress.parse(text, "--x")
    assert caught.value.hint
