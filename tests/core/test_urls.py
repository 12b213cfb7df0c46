"""What is shown of a URL."""

from __future__ import annotations

import pytest

from flashctl.core.urls import mask_url

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
