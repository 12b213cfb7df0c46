"""What is shown of a URL."""

from __future__ import annotations

import pytest

from flashctl.core.net.urls import hide_secrets, mask_url

MASKED = {
    "wss://user:pass@host:8443/v2/abcdefghijklmnopqrstuvwx/ws?key=abc&x=1": "wss://host:8443/v2/…/ws?key=…&x=…",
    "https://host/v2/KEY": "https://host/v2/…",
    "https://host/rpc/abc/": "https://host/rpc/…/",
    "https://host/?KEY": "https://host/?…",
    "https://host/#KEY": "https://host/",
    "http://[::1]:8545/rpc": "http://[::1]:8545/rpc",
    "http://user:pass@[::1]:8545": "http://[::1]:8545",
    "user:pass@127.0.0.1:8551": "127.0.0.1:8551",
    "127.0.0.1:8551": "127.0.0.1:8551",
    "http://host:99999/KEY": "…",
    "http://[KEY": "…",
}


@pytest.mark.parametrize("url", MASKED)
def test_secrets_do_not_show_in_urls(url: str) -> None:
    assert mask_url(url) == MASKED[url]


def test_what_quotes_a_url_is_freed_of_its_secrets() -> None:
    url = "wss://user:pa%20ss@host/v2/KEY-1234/ws?key=abcdef&flag-token#frag"
    page = "no route for /v2/KEY-1234/ws?key=abcdef&flag-token of user:pa ss (pa%20ss), see v2 and ws"
    shown = hide_secrets(page, url)
    for secret in ("KEY-1234", "abcdef", "flag-token", "pa ss", "pa%20ss", "user"):
        assert secret not in shown
    assert "see v2 and ws" in shown
    assert hide_secrets("nothing to hide", "http://[KEY") == "nothing to hide"
