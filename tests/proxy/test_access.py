"""Who is let in: keys, addresses, limits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from flashctl.core.hub import Admission, HttpResponse, UpgradeRequest
from flashctl.errors import IoError
from flashctl.proxy.access import AccessControl, route_of
from flashctl.proxy.client_addresses import ClientAddresses, InvalidNetwork, parse_forwarded_address
from flashctl.proxy.connection_limits import (
    ConnectionCounts,
    ConnectionLimits,
    ConnectionRefused,
    ConnectionTicket,
    Limit,
)
from flashctl.proxy.keys import ApiKeys, InvalidApiKey, load_keys

HANDSHAKE = {
    "upgrade": "websocket",
    "connection": "upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def request(
    path: str = "/ws",
    headers: Mapping[str, str] | tuple[tuple[str, str], ...] = (),
    peer: str = "192.0.2.1",
    query: Mapping[str, list[str]] | None = None,
) -> UpgradeRequest:
    pairs = tuple(headers.items()) if isinstance(headers, Mapping) else headers
    return UpgradeRequest("GET", path, query or {}, (*HANDSHAKE.items(), *pairs), peer)


class TestKeys:
    def test_parsing(self) -> None:
        keys = ApiKeys.parse(["app1:key1:10", "app2:key2", "", " app3 : key3 : 5 "])
        assert len(keys) == 3
        assert (keys.find("key1").app, keys.find("key1").limit) == ("app1", 10)
        assert keys.find("key2").limit is None
        assert keys.find("key3").app == "app3"
        assert keys.find("key4") is None

    def test_a_key_may_be_given_as_its_hash(self) -> None:
        keys = ApiKeys.parse([f"app:sha256={hashlib.sha256(b'secret').hexdigest()}:3"])
        assert keys.find("secret").limit == 3

    @pytest.mark.parametrize(
        ("entries", "problem"),
        [
            (["app1:key1:1", "app1:key2:1"], "Duplicate application argument"),
            (["app1:key1:1", "app2:key1:1"], "Duplicate API key"),
            ([":key:1"], "Missing application argument"),
            (["app"], "Missing API Key argument"),
            (["app:"], "Missing API Key argument"),
            (["app:key:many"], "Missing rate limit argument"),
            (["app:key:-1"], "Missing rate limit argument"),
            (["app:key:1:2"], "Too many components"),
        ],
    )
    def test_problems(self, entries: list[str], problem: str) -> None:
        with pytest.raises(InvalidApiKey, match=problem) as caught:
            ApiKeys.parse(entries)
        assert "key1" not in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_malformed_entry_does_not_show_the_key(self) -> None:
        with pytest.raises(InvalidApiKey) as caught:
            ApiKeys.parse(["sup3rs3cret"])
        assert "sup3rs3cret" not in str(caught.value)

    def test_no_key_is_kept(self) -> None:
        keys = ApiKeys.parse(["app:sup3rs3cret:1"])
        assert "sup3rs3cret" not in repr(vars(keys))

    def test_file(self, tmp_path: Path) -> None:
        path = tmp_path / "keys"
        path.write_text("# ours\napp1:key1:10\n\n  # theirs\napp2:key2\n")
        assert len(load_keys(["app3:key3"], path)) == 3
        with pytest.raises(IoError, match="No such file"):
            load_keys([], tmp_path / "absent")


class TestAddresses:
    TRUSTED = ClientAddresses("X-Forwarded-For", ["10.0.0.0/8", "fd00::/8"])

    @pytest.mark.parametrize(
        ("peer", "headers", "client"),
        [
            ("192.0.2.1", {}, "192.0.2.1"),
            # An untrusted peer could forge identities with the header, so it is ignored.
            ("192.0.2.1", {"x-forwarded-for": "198.51.100.7"}, "192.0.2.1"),
            ("10.0.0.1", {"x-forwarded-for": "198.51.100.7"}, "198.51.100.7"),
            ("10.0.0.1", {"x-forwarded-for": "1.1.1.1, 198.51.100.7"}, "198.51.100.7"),
            ("10.0.0.1", {"x-forwarded-for": "198.51.100.7, 10.0.0.2"}, "198.51.100.7"),
            ("10.0.0.1", {"x-forwarded-for": "198.51.100.7:4711"}, "198.51.100.7"),
            ("10.0.0.1", {"x-forwarded-for": "[2001:db8::1]:4711"}, "2001:db8::1"),
            ("10.0.0.1", {"x-forwarded-for": " 198.51.100.7 "}, "198.51.100.7"),
            ("10.0.0.1", {"x-forwarded-for": "400.0.0.1"}, "10.0.0.1"),
            ("10.0.0.1", {"x-forwarded-for": "1.2.3.4.5"}, "10.0.0.1"),
            ("10.0.0.1", {"x-forwarded-for": "garbage"}, "10.0.0.1"),
            ("10.0.0.1", {"x-forwarded-for": "6.6.6.6, garbage"}, "10.0.0.1"),
            ("10.0.0.1", {}, "10.0.0.1"),
            ("::ffff:10.0.0.1", {"x-forwarded-for": "198.51.100.7"}, "198.51.100.7"),
            # Repeated lines are one list.
            ("10.0.0.1", (("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2")), "2.2.2.2"),
        ],
    )
    def test_client(self, peer: str, headers: Mapping[str, str], client: str) -> None:
        assert self.TRUSTED.client(request(headers=headers, peer=peer)) == client

    def test_forwarded_of_rfc_7239(self) -> None:
        addresses = ClientAddresses("Forwarded", ["10.0.0.0/8"])
        header = {"forwarded": 'for=1.1.1.1, for="[2001:db8::1]:80";proto=https'}
        assert addresses.client(request(headers=header, peer="10.0.0.1")) == "2001:db8::1"

    def test_ipv6_is_grouped_by_64(self) -> None:
        group = ClientAddresses.group
        assert group("2001:db8:0:1::5") == group("2001:db8:0:1:ffff::") == "2001:db8:0:1::/64"
        assert group("2001:db8:0:2::5") != group("2001:db8:0:1::5")
        assert group("198.51.100.7") == "198.51.100.7"

    def test_bad_network(self) -> None:
        with pytest.raises(InvalidNetwork, match="10.0.0.0/99"):
            ClientAddresses("X", ["10.0.0.0/99"])

    @given(st.text(max_size=60))
    def test_nothing_in_a_header_raises(self, text: str) -> None:
        parse_forwarded_address(text)


class TestLimits:
    def test_tickets_are_released(self) -> None:
        counts = ConnectionCounts()
        ticket = counts.acquire(ConnectionLimits(1, 1), "a", "app", 1)
        assert isinstance(ticket, ConnectionTicket)
        ticket.release()
        ticket.release()
        assert (counts.total, dict(counts.by_address), dict(counts.by_app)) == (0, {}, {})

    def test_instance_limit(self) -> None:
        counts, limits = ConnectionCounts(), ConnectionLimits(3, 0)
        tickets = [counts.acquire(limits, f"a{n}", None, None) for n in range(3)]
        assert counts.acquire(limits, "b", None, None) == ConnectionRefused(Limit.INSTANCE, 3)
        tickets[0].release()
        assert isinstance(counts.acquire(limits, "b", None, None), ConnectionTicket)

    def test_address_limit(self) -> None:
        counts, limits = ConnectionCounts(), ConnectionLimits(0, 2)
        first, _ = (counts.acquire(limits, "a", None, None) for _ in range(2))
        assert counts.acquire(limits, "a", None, None) == ConnectionRefused(Limit.ADDRESS, 2)
        assert isinstance(counts.acquire(limits, "b", None, None), ConnectionTicket)
        first.release()
        assert isinstance(counts.acquire(limits, "a", None, None), ConnectionTicket)
        assert isinstance(counts.acquire(limits, "a", None, None), ConnectionRefused)

    def test_a_refusal_by_the_key_takes_nothing_from_the_address(self) -> None:
        """flashbots' proxy loses a slot of the address for good at each of these."""
        counts, limits = ConnectionCounts(), ConnectionLimits(0, 3)
        counts.acquire(limits, "a", "app", 1)
        for _ in range(10):
            assert counts.acquire(limits, "a", "app", 1) == ConnectionRefused(Limit.KEY, 1)
        assert isinstance(counts.acquire(limits, "a", "other", 1), ConnectionTicket)

    def test_0_is_no_limit(self) -> None:
        counts = ConnectionCounts()
        for _ in range(1000):
            assert isinstance(counts.acquire(ConnectionLimits(0, 0), "a", None, None), ConnectionTicket)

    @settings(max_examples=examples(50))
    @given(st.lists(st.tuples(st.booleans(), st.sampled_from("ab"), st.sampled_from("xy")), max_size=80))
    def test_no_limit_is_ever_exceeded_and_nothing_leaks(self, steps: list[tuple[bool, str, str]]) -> None:
        counts, held = ConnectionCounts(), []
        for take, address, app in steps:
            if take:
                ticket = counts.acquire(ConnectionLimits(6, 4), address, app, 3)
                if isinstance(ticket, ConnectionTicket):
                    held.append(ticket)
            elif held:
                held.pop(0).release()
            assert counts.total == len(held) <= 6
            assert all(count <= 4 for count in counts.by_address.values())
            assert all(count <= 3 for count in counts.by_app.values())
        for ticket in held:
            ticket.release()
        assert (counts.total, len(counts.by_address), len(counts.by_app)) == (0, 0, 0)


class TestRoutes:
    @pytest.mark.parametrize("path", ["/", "/ws/", "/wsx", "/ws/key/x", "/ws/key/filter/", "", "/ws//filter"])
    def test_none(self, path: str) -> None:
        assert route_of(path) is None

    def test_all(self) -> None:
        assert (route_of("/ws").key, route_of("/ws").filtered) == (None, False)
        assert (route_of("/ws/k").key, route_of("/ws/k").filtered) == ("k", False)
        assert (route_of("/ws/k/filter").key, route_of("/ws/k/filter").filtered) == ("k", True)
        assert (route_of("/ws/filter").key, route_of("/ws/filter").filtered) == (None, True)


def access(
    keys: str = "", *, public: bool = False, instance: int = 100, per_address: int = 10
) -> AccessControl:
    return AccessControl(
        limits=ConnectionLimits(instance, per_address),
        keys=ApiKeys.parse(keys.split(",")),
        addresses=ClientAddresses("X-Forwarded-For", []),
        public=public,
    )


class TestAccess:
    KEYS = "app1:key1:2,app2:key2,off:key3:0"

    def test_without_keys_the_stream_is_public(self) -> None:
        assert isinstance(access().admit(request()), Admission)
        assert self.status(access().admit(request("/ws/key1"))) == 404

    @pytest.mark.parametrize(
        ("path", "headers"),
        [
            ("/ws/key1", {}),
            ("/ws/key1/filter", {}),
            ("/ws", {"x-api-key": "key1"}),
            ("/ws", {"authorization": "Bearer key1"}),
            ("/ws/filter", {"authorization": "bearer key1"}),
        ],
    )
    def test_a_key_by_path_header_or_bearer(self, path: str, headers: Mapping[str, str]) -> None:
        admitted = access(self.KEYS).admit(request(path, headers))
        assert isinstance(admitted, Admission)
        assert admitted.label == "app1"

    @pytest.mark.parametrize(
        ("path", "headers", "status"),
        [
            ("/ws", {}, 401),
            ("/ws/key4", {}, 401),
            ("/ws", {"authorization": "Basic key1"}, 401),
            ("/ws/filter", {}, 401),
            ("/ws/key3", {}, 403),
        ],
    )
    def test_refusals(self, path: str, headers: Mapping[str, str], status: int) -> None:
        guard = access(self.KEYS)
        answer = guard.admit(request(path, headers))
        assert self.status(answer) == status
        assert answer.content_type == "application/json"
        assert guard.stats.unauthorized == 1
        assert guard.counts.total == 0

    def test_public_access_beside_keys(self) -> None:
        guard = access(self.KEYS, public=True)
        assert isinstance(guard.admit(request()), Admission)
        assert isinstance(guard.admit(request("/ws/key1")), Admission)
        assert self.status(guard.admit(request("/ws/key4"))) == 401

    def test_limits_say_which_and_when_to_retry(self) -> None:
        guard = access(self.KEYS, per_address=3)
        for _ in range(2):
            guard.admit(request("/ws/key1"))
        answer = guard.admit(request("/ws/key1"))
        assert self.status(answer) == 429
        assert b'"limit":"per_key"' in answer.body
        assert b'"allowed":2' in answer.body
        assert int(dict(answer.headers)["Retry-After"]) > 0
        guard.admit(request("/ws/key2"))
        answer = guard.admit(request("/ws/key2"))
        assert b"IP limit exceeded" in answer.body
        assert guard.stats.refused[Limit.KEY] == 1
        assert guard.stats.refused[Limit.ADDRESS] == 1

    def test_connections_by_app_counts_only_the_admitted(self) -> None:
        guard = access(self.KEYS)
        for _ in range(5):
            guard.admit(request("/ws/key1"))
        assert guard.stats.by_app["app1"] == 2

    def test_a_handshake_that_is_none_takes_no_slot(self) -> None:
        guard = access()
        plain = UpgradeRequest("GET", "/ws", {}, (), "192.0.2.1")
        assert self.status(guard.admit(plain)) == 400
        assert guard.counts.total == 0

    @staticmethod
    def status(answer: object) -> int:
        assert isinstance(answer, HttpResponse)
        return answer.status
