"""The small decisions: which block, which health, which mode, what a candidate is worth, which settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.engines import DEPOSIT, Build, ToyBuilder, attributes_after, genesis
from support.flashblocks import derived_blocks

from flashctl.boost.candidate import (
    Request,
    Unusable,
    from_fallback,
    from_flashblocks,
    keeps_preconfirmations,
)
from flashctl.boost.config import EngineUpstream, FlashblocksConfig
from flashctl.boost.decisions import DecisionLog
from flashctl.boost.health import BoostHealth, HealthStatus
from flashctl.boost.modes import ExecutionMode, SelectionPolicy
from flashctl.boost.selection import Choice, Offer, Source, choose
from flashctl.core.engine.jwt import JwtSecret
from flashctl.core.engine.payloads import envelope_to_json, payload_from_json
from flashctl.core.flashblocks import wire
from flashctl.core.flashblocks.sequence import Payload
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.errors import IoError, UnavailableError, UsageError
from flashctl.eth.blocks import EMPTY_TRIE_ROOT
from flashctl.eth.hexdata import parse_hex
from flashctl.op.attributes import PayloadAttributes

START = genesis()
FULL, TENTH, LESS, NONE = Offer(1000, 10), Offer(100, 10), Offer(99, 10), Offer(0, 0)
ON, DRY = ExecutionMode.ENABLED, ExecutionMode.DRY_RUN
BUILDER, GAS = SelectionPolicy.BUILDER, SelectionPolicy.GAS_USED


class TestSelection:
    @pytest.mark.parametrize(
        ("builder", "fallback", "mode", "policy", "source"),
        [
            (FULL, FULL, ON, BUILDER, Source.BUILDER),
            (NONE, FULL, ON, BUILDER, Source.BUILDER),
            (None, FULL, ON, BUILDER, Source.FALLBACK),
            (FULL, FULL, DRY, BUILDER, Source.FALLBACK),
            (TENTH, FULL, ON, GAS, Source.BUILDER),
            (LESS, FULL, ON, GAS, Source.FALLBACK),
            (NONE, NONE, ON, GAS, Source.BUILDER),
            (FULL, None, ON, BUILDER, Source.BUILDER),
            (FULL, None, DRY, BUILDER, None),
            (None, None, ON, BUILDER, None),
        ],
    )
    def test_table(
        self,
        builder: Offer | None,
        fallback: Offer | None,
        mode: ExecutionMode,
        policy: SelectionPolicy,
        source: Source | None,
    ) -> None:
        choice = choose(builder, fallback, mode, policy, "why not")
        assert (choice and choice.source) == source

    def test_reason_is_the_failure(self) -> None:
        assert choose(None, FULL, ON, BUILDER, "builder is down") == Choice(
            Source.FALLBACK, "builder is down"
        )


class TestHealth:
    def test_an_engine_that_says_no_is_well(self) -> None:
        health = BoostHealth(60)
        for code in (ErrorCode.METHOD_NOT_FOUND, ErrorCode.UNKNOWN_PAYLOAD, ErrorCode.UNSUPPORTED_FORK):
            health.fallback_refused(RpcError(code, "no"))
            assert health.status(ExecutionMode.ENABLED) == 200
        for error in (RpcError(ErrorCode.SERVER_ERROR, "database closed"), UnavailableError("away")):
            health.fallback_refused(error)
            assert health.status(ExecutionMode.ENABLED) == 503

    def test_starts_healthy(self) -> None:
        assert BoostHealth(10).status(ON) is HealthStatus.HEALTHY

    @pytest.mark.parametrize(
        ("fallback_age", "builder_age", "mode", "status"),
        [
            (1.0, 1.0, ON, 200),
            (-1.0, 10.0, ON, 200),
            (1.0, 10.1, ON, 206),
            (1.0, None, ON, 206),
            (1.0, None, DRY, 206),
            (1.0, None, ExecutionMode.DISABLED, 200),
            (10.1, 1.0, ON, 503),
            (None, 1.0, ON, 503),
            (None, None, ExecutionMode.DISABLED, 503),
        ],
    )
    def test_probes(
        self, fallback_age: float | None, builder_age: float | None, mode: ExecutionMode, status: int
    ) -> None:
        health = BoostHealth(10)
        health.fallback_probed(fallback_age)
        health.builder_probed(builder_age)
        assert health.status(mode) == status

    def test_facts_do_not_hide_each_other(self) -> None:
        health = BoostHealth(10)
        health.builder_delivered(False)
        health.fallback_answered(False)
        assert health.status(ON) == 503
        health.fallback_answered(True)
        assert health.status(ON) == 206
        health.fallback_probed(1)
        assert health.status(ON) == 206
        health.builder_delivered(True)
        assert health.status(ON) == 200

    def test_builder_at_the_head_gets_another_chance(self) -> None:
        health = BoostHealth(10)
        health.builder_delivered(False)
        health.builder_probed(None)
        assert not health.builder_ok
        health.builder_probed(1)
        assert health.builder_ok

    def test_phrases(self) -> None:
        assert [status.phrase for status in HealthStatus] == ["OK", "Partial Content", "Service Unavailable"]


class TestModes:
    @pytest.mark.parametrize("text", ["dry-run", "dry_run", " Dry-Run "])
    def test_names(self, text: str) -> None:
        assert ExecutionMode.parse(text) is DRY

    def test_unknown(self) -> None:
        with pytest.raises(UsageError, match="unknown execution mode 'fast'") as caught:
            ExecutionMode.parse("fast")
        assert caught.value.hint == "enabled, dry-run or disabled"

    def test_gauges(self) -> None:
        assert [mode.gauge for mode in ExecutionMode] == [3, 2, 1]


def payload(**changes: Any) -> Payload:
    """Two flashblocks of a toy block; changes go into the last diff."""
    builder, identity, parent = ToyBuilder(START), bytes(8), START
    build = builder.builds[identity] = Build(parent, attributes_after(parent), [DEPOSIT])
    first = builder.flashblock(identity, [])
    build.published, build.transactions = 1, [DEPOSIT, b"\x02\xc0"]
    second = builder.flashblock(identity, [b"\x02\xc0"])
    second = replace(second, diff=replace(second.diff, **changes))
    assert first.base is not None
    return Payload(first.payload_id, first.block_number, first.base, (first, second))


def request(version: int = 4) -> Request:
    return Request(START.hash, attributes_after(START), version)


def request_for(made: Payload, version: int) -> Request:
    """What a consensus client must have asked for to get a recorded block."""
    base, extra = made.base, made.base.extra_data
    deposits = tuple(raw for raw in made.transactions if raw[0] == 0x7E)
    attributes = PayloadAttributes(
        base.timestamp,
        base.prev_randao,
        base.fee_recipient,
        deposits,
        gas_limit=base.gas_limit,
        parent_beacon_block_root=base.parent_beacon_block_root,
        eip1559_params=extra[1:9] or None,
        min_base_fee=int.from_bytes(extra[9:], "big") if len(extra) == 17 else None,
    )
    return Request(base.parent_hash, attributes, version)


class TestCandidate:
    def test_from_flashblocks(self) -> None:
        candidate = from_flashblocks(payload(), request())
        assert (candidate.via, candidate.offer) == ("flashblocks", Offer(42_000, 2))
        assert (candidate.block_number, candidate.timestamp) == (1, payload().base.timestamp)
        assert candidate.envelope["executionRequests"] == []
        assert keeps_preconfirmations(candidate, payload())

    @pytest.mark.parametrize(
        ("change", "version", "reason"),
        [
            ({"block_hash": bytes(32)}, 4, "no block hash"),
            ({"block_hash": b"\x01" * 32}, 4, "builder announced 0x0101"),
            ({"gas_used": 1}, 4, "flashblocks make block"),
            ({}, 3, "another fork than getPayloadV3"),
        ],
    )
    def test_unusable(self, change: dict[str, Any], version: int, reason: str) -> None:
        with pytest.raises(Unusable, match=reason):
            from_flashblocks(payload(**change), request(version))

    def test_none(self) -> None:
        with pytest.raises(Unusable, match="no flashblocks"):
            from_flashblocks(None, request())

    def test_real_blocks_in_flashblocks(self) -> None:
        count = 0
        for recorded in derived_blocks():
            flashblocks = tuple(wire.from_object(message) for message in recorded["flashblocks"])
            first = flashblocks[0]
            assert first.base is not None
            made = Payload(first.payload_id, first.block_number, first.base, flashblocks)
            isthmus = made.diff.withdrawals_root not in (bytes(32), EMPTY_TRIE_ROOT)
            candidate = from_flashblocks(made, request_for(made, 4 if isthmus else 3))
            root = parse_hex(candidate.envelope["parentBeaconBlockRoot"])
            block = payload_from_json(candidate.payload, root, requests=[] if isthmus else None)
            assert block.hash == made.diff.block_hash
            count += 1
        assert count > 5

    def test_promises(self) -> None:
        promised = payload()
        for transactions, kept in (
            ([DEPOSIT, b"\x02\xc0", b"\x02\xc1"], True),
            ([DEPOSIT], False),
            ([b"\x02\xc0", DEPOSIT], False),
        ):
            envelope = {"executionPayload": {"transactions": ["0x" + raw.hex() for raw in transactions]}}
            assert keeps_preconfirmations(from_fallback(envelope), promised) is kept
        assert keeps_preconfirmations(from_fallback({"executionPayload": {}}), None)
        assert not keeps_preconfirmations(from_fallback({"executionPayload": {}}), promised)

    def test_payload_of_nonsense_is_nobody(self) -> None:
        candidate = from_fallback({"executionPayload": {"gasUsed": 5, "transactions": "x"}})
        assert (candidate.offer, candidate.timestamp) == (Offer(0, 0), 0)
        build = Build(genesis(), attributes_after(genesis()), [DEPOSIT])
        assert from_fallback(envelope_to_json(build.block)).offer == Offer(21_000, 1)


def secret_of(upstream: EngineUpstream) -> bytes:
    assert isinstance(upstream.jwt_secret, JwtSecret)
    return upstream.jwt_secret.value


class TestSettings:
    def test_token_or_path(self, tmp_path: Path) -> None:
        token = "0x" + "ab" * 32
        upstream = EngineUpstream.load("l2", "127.0.0.1:8551", token, None, 250)
        assert (upstream.url, secret_of(upstream)) == ("http://127.0.0.1:8551", b"\xab" * 32)
        assert upstream.timeout_s == 0.25
        assert "abab" not in repr(upstream)
        with pytest.raises(UsageError, match="both name the secret"):
            EngineUpstream.load("l2", "127.0.0.1:8551", token, tmp_path / "absent", 250)

    def test_secret_from_file(self, tmp_path: Path) -> None:
        (tmp_path / "jwt").write_text("cd" * 32 + "\n")
        assert secret_of(EngineUpstream.load("l2", "http://x", None, tmp_path / "jwt", 1)) == b"\xcd" * 32

    @pytest.mark.parametrize(
        ("url", "token", "timeout", "reason"),
        [
            ("http://x", None, 1, "Missing Client JWT secret"),
            ("http://x", "12", 1, "64 digits. 2 digits key provided"),
            ("ftp://x", "ab" * 32, 1, "not an http or https URL"),
            ("http://x", "ab" * 32, 0, "--l2-timeout 0"),
        ],
    )
    def test_refused(self, url: str, token: str | None, timeout: int, reason: str) -> None:
        with pytest.raises(UsageError, match=reason):
            EngineUpstream.load("l2", url, token, None, timeout)

    def test_flashblocks(self) -> None:
        with pytest.raises(UsageError, match="a flashblocks stream is ws:// or wss://"):
            FlashblocksConfig("http://x")
        with pytest.raises(UsageError, match="--flashblock-builder-ws-ping-interval-ms must be above 0"):
            FlashblocksConfig(ping_interval_ms=0)

    def test_decisions_file_that_cannot_be(self, tmp_path: Path) -> None:
        with pytest.raises(IoError, match="cannot write decisions"):
            DecisionLog(tmp_path / "no" / "such" / "folder")
