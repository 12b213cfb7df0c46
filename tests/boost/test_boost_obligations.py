"""A builder's block with one thing wrong is refused, and the reason names the thing."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engines import CHAIN_DEFAULTS, DEPOSIT, Build, ToyBuilder, attributes_after, genesis, make_block
from support.examples import examples

from flashctl.boost.candidate import Request, Unusable, from_envelope, from_fallback, from_flashblocks
from flashctl.boost.obligations import (
    MAX_TRANSACTIONS,
    first_difference,
    later_difference,
    parameters_of,
    read_transactions,
)
from flashctl.core.engine.payloads import envelope_to_json
from flashctl.core.flashblocks.sequence import Payload
from flashctl.eth.blocks import EMPTY_TRIE_ROOT, Block

PARENT = genesis()
WANTED = replace(attributes_after(PARENT), transactions=(DEPOSIT, DEPOSIT + b"\x01"))
TX = b"\x02\xc0"
BLOCK = make_block(PARENT, WANTED, (*WANTED.transactions, TX))
RIGHT = envelope_to_json(BLOCK, block_value=7)
REQUEST = Request(PARENT.hash, WANTED, 4, CHAIN_DEFAULTS)


def judged(envelope: Any, request: Request = REQUEST) -> str:
    """Why an envelope is refused; empty if it is not."""
    try:
        from_envelope(envelope, "getPayload", request)
    except Unusable as error:
        return str(error)
    return ""


def ecotone() -> tuple[Request, Block]:
    """The same before Isthmus: V3, no requests, no withdrawals root."""
    header = replace(BLOCK.header, requests_hash=None, withdrawals_root=EMPTY_TRIE_ROOT)
    return replace(REQUEST, version=3), Block(header, BLOCK.transactions)


def test_the_right_one_is_taken_and_written_anew() -> None:
    sent = copy.deepcopy(RIGHT)
    sent["witness"] = sent["executionPayload"]["slotNumber"] = "0x1"
    assert from_envelope(sent, "", REQUEST).envelope == RIGHT
    request, block = ecotone()
    # geth writes null where a version has no such field.
    sent = {**envelope_to_json(block), "executionRequests": None}
    assert from_envelope(sent, "", request).envelope == envelope_to_json(block)


class TestOtherThanAsked:
    """Blocks that hash to their name and may be valid on their parent."""

    CHANGES = (
        ("parent hash", {"parent_hash": b"\x01" * 32}),
        ("timestamp", {"timestamp": WANTED.timestamp + 1}),
        ("prev randao", {"prev_randao": b"\x01" * 32}),
        ("fee recipient", {"fee_recipient": b"\x01" * 20}),
        ("gas limit", {"gas_limit": 29_999_999}),
        ("extra data", {"extra_data": b"\1" + b"\0\0\0\1" * 2 + bytes(8)}),
        ("extra data", {"extra_data": b"\1" + CHAIN_DEFAULTS + b"\0" * 7 + b"\1"}),
        ("extra data", {"extra_data": b"\0" + CHAIN_DEFAULTS}),
        ("extra data", {"extra_data": b""}),
    )

    @pytest.mark.parametrize(("name", "change"), CHANGES)
    def test_by_get_payload(self, name: str, change: dict[str, Any]) -> None:
        block = Block(replace(BLOCK.header, **change), BLOCK.transactions)
        assert judged(envelope_to_json(block)) == f"getPayload: {name} differs"

    @pytest.mark.parametrize(("name", "change"), CHANGES)
    def test_by_flashblocks_before_anybody_hears(self, name: str, change: dict[str, Any]) -> None:
        (first,) = flashblocks(1)
        assert first.base is not None
        assert first_difference(first, PARENT.hash, WANTED, CHAIN_DEFAULTS) == ""
        wrong = replace(first, base=replace(first.base, **change))
        assert first_difference(wrong, PARENT.hash, WANTED, CHAIN_DEFAULTS) == f"{name} differs"

    def test_beacon_root_only_the_builder_used(self) -> None:
        block = Block(replace(BLOCK.header, parent_beacon_block_root=b"\x01" * 32), BLOCK.transactions)
        assert judged(envelope_to_json(block)) == "getPayload: beacon root differs"
        # Stating the right one beside a block made with another does not help.
        right = {**envelope_to_json(block), "parentBeaconBlockRoot": RIGHT["parentBeaconBlockRoot"]}
        assert "blockhash mismatch" in judged(right)

    @pytest.mark.parametrize(
        ("transactions", "reason"),
        [
            ((), "forced transactions differ"),
            ((DEPOSIT,), "forced transactions differ"),
            ((DEPOSIT, TX), "forced transactions differ"),
            ((DEPOSIT + b"\x01", DEPOSIT), "forced transactions differ"),
            ((TX, *WANTED.transactions), "forced transactions differ"),
            ((*WANTED.transactions, TX, DEPOSIT), "an unrequested deposit"),
            ((*WANTED.transactions, DEPOSIT), "an unrequested deposit"),
        ],
    )
    def test_transactions(self, transactions: tuple[bytes, ...], reason: str) -> None:
        envelope = envelope_to_json(make_block(PARENT, WANTED, transactions))
        assert judged(envelope) == f"getPayload: {reason}"
        (first,) = flashblocks(1)
        wrong = replace(first, diff=replace(first.diff, transactions=transactions))
        assert first_difference(wrong, PARENT.hash, WANTED, CHAIN_DEFAULTS) == reason

    def test_later_flashblocks(self) -> None:
        _, second = flashblocks(2)
        assert later_difference(second) == ""
        for change, reason in (
            ({"transactions": (TX, DEPOSIT)}, "an unrequested deposit"),
            ({"transactions": (b"",)}, "empty transaction"),
            ({"transactions": (TX,) * (MAX_TRANSACTIONS + 1)}, "more than 100000 transactions"),
            ({"withdrawals": ({"index": "0x0"},)}, "withdrawals on an L2"),
        ):
            assert later_difference(replace(second, diff=replace(second.diff, **change))) == reason

    def test_flashblocks_that_add_up_to_it(self) -> None:
        made = flashblocks(2)
        assert made[0].base is not None
        payload = Payload(made[0].payload_id, 1, made[0].base, made)
        assert from_flashblocks(payload, REQUEST).envelope == envelope_to_json(BLOCK)
        for wanted, reason in (
            (replace(WANTED, gas_limit=1), "gas limit differs"),
            (replace(WANTED, transactions=(DEPOSIT,)), "an unrequested deposit"),
        ):
            with pytest.raises(Unusable, match=f"flashblocks: {reason}"):
                from_flashblocks(payload, replace(REQUEST, attributes=wanted))


class TestFeeParameters:
    """The one thing asked for that may be left to the chain."""

    def test_named_ones(self) -> None:
        wanted = replace(WANTED, eip1559_params=b"\0\0\0\7" * 2, min_base_fee=9)
        request = replace(REQUEST, attributes=wanted)
        block = make_block(PARENT, wanted, BLOCK.transactions)
        assert judged(envelope_to_json(block), request) == ""
        assert judged(RIGHT, request) == "getPayload: extra data differs"

    def test_before_holocene_there_are_none(self) -> None:
        request, block = ecotone()
        wanted = replace(WANTED, eip1559_params=None, min_base_fee=None)
        request = replace(request, attributes=wanted)
        assert judged(envelope_to_json(block), request) == "getPayload: extra data before Holocene"
        block = Block(replace(block.header, extra_data=b""), block.transactions)
        assert judged(envelope_to_json(block), request) == ""

    def test_holocene(self) -> None:
        wanted = replace(WANTED, min_base_fee=None)
        block = Block(replace(BLOCK.header, extra_data=b"\0" + CHAIN_DEFAULTS), BLOCK.transactions)
        assert judged(envelope_to_json(block), replace(REQUEST, attributes=wanted)) == ""

    def test_the_chains_own_are_learned_from_the_fallback(self) -> None:
        unknowing = replace(REQUEST, defaults=None)
        assert unknowing.lacks_defaults
        assert not REQUEST.lacks_defaults
        odd = Block(replace(BLOCK.header, extra_data=b"\1" + b"\0\0\0\1" * 2 + bytes(8)), BLOCK.transactions)
        candidate = from_envelope(envelope_to_json(odd), "getPayload", unknowing)
        with pytest.raises(Unusable, match="getPayload: extra data differs from the fallback's"):
            candidate.check_against(from_fallback(RIGHT))
        assert parameters_of(RIGHT["executionPayload"], WANTED) == CHAIN_DEFAULTS
        assert parameters_of(RIGHT["executionPayload"], replace(WANTED, eip1559_params=b"\1" * 8)) is None
        for extra in (None, 5, "0x", "zz"):
            assert parameters_of({"extraData": extra}, WANTED) is None
        zero = Block(replace(BLOCK.header, extra_data=b"\1" + bytes(16)), BLOCK.transactions)
        assert judged(envelope_to_json(zero), unknowing).endswith("zero EIP-1559 parameter")

    @pytest.mark.parametrize(
        ("change", "name"), [({"number": 5}, "block number"), ({"base_fee_per_gas": 30}, "base fee")]
    )
    def test_what_follows_from_the_parent(self, change: dict[str, Any], name: str) -> None:
        block = Block(replace(BLOCK.header, **change), BLOCK.transactions)
        candidate = from_envelope(envelope_to_json(block), "getPayload", REQUEST)
        with pytest.raises(Unusable, match=f"{name} differs from the fallback's"):
            candidate.check_against(from_fallback(RIGHT))
        for nonsense in ({}, {"blockNumber": 5}, {"blockNumber": ["0x1"]}):
            with pytest.raises(Unusable):
                candidate.check_against(from_fallback({"executionPayload": nonsense}))


PAYLOAD = RIGHT["executionPayload"]
QUANTITIES = (
    *("blockNumber", "gasLimit", "gasUsed", "timestamp"),
    *("baseFeePerGas", "blobGasUsed", "excessBlobGas"),
)
WRONG: tuple[Any, ...] = (
    None,
    "",
    "0x",
    "abc",
    "0xzz",
    "0x-1",
    " 0x1",
    5,
    -1,
    True,
    1.5,
    [],
    [1],
    {},
    "0x" + "1" * 700,
)
"""No field of a payload or envelope may be one of these, but for the few that are empty lists."""


class TestForm:
    @pytest.mark.parametrize("name", [*PAYLOAD])
    @pytest.mark.parametrize("value", WRONG, ids=repr)
    def test_every_field_of_the_payload(self, name: str, value: Any) -> None:
        if PAYLOAD[name] == value:
            return
        reason = judged({**RIGHT, "executionPayload": {**PAYLOAD, name: value}})
        # Other transactions and extra data of another length are right in form and give another hash.
        well_formed = (name, value) in (("extraData", "0x"), ("transactions", []))
        assert ("blockhash mismatch" if well_formed else name) in reason

    @pytest.mark.parametrize("name", QUANTITIES)
    @pytest.mark.parametrize("value", ["0x00", "0x01", "0X1", "0x" + "f" * 65])
    def test_quantities_are_canonical(self, name: str, value: str) -> None:
        assert name in judged({**RIGHT, "executionPayload": {**PAYLOAD, name: value}})

    @pytest.mark.parametrize("name", [*PAYLOAD])
    def test_missing(self, name: str) -> None:
        payload = {key: value for key, value in PAYLOAD.items() if key != name}
        assert name in judged({**RIGHT, "executionPayload": payload})

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("executionPayload", WRONG),
            ("blockValue", WRONG),
            ("shouldOverrideBuilder", [value for value in WRONG if value is not True]),
            ("executionRequests", [*[value for value in WRONG if value != []], ["0x00"]]),
            ("parentBeaconBlockRoot", WRONG),
            (
                "blobsBundle",
                [*WRONG, *({**RIGHT["blobsBundle"], part: None} for part in RIGHT["blobsBundle"])],
            ),
        ],
    )
    def test_the_envelope(self, name: str, values: list[Any]) -> None:
        alias = {"parentBeaconBlockRoot": "beacon root", "executionPayload": "is missing"}.get(name, name)
        for value in values:
            reason = judged({**RIGHT, name: value})
            assert name in reason or alias in reason, value
        without = {key: value for key, value in RIGHT.items() if key != name}
        assert name in judged(without)

    def test_shape_of_another_version(self) -> None:
        request, earlier = ecotone()
        assert "executionRequests" in judged(envelope_to_json(earlier))
        assert "blockhash mismatch" in judged(RIGHT, request)
        assert "executionRequests" in judged({**RIGHT, "executionRequests": ["0x00"]}, request)

    def test_hash_and_contents_belong_together(self) -> None:
        assert "blockhash mismatch" in judged(
            {**RIGHT, "executionPayload": {**PAYLOAD, "blockHash": "0x" + "11" * 32}}
        )

    def test_too_many_transactions(self) -> None:
        many = {**RIGHT, "executionPayload": {**PAYLOAD, "transactions": ["0x02"] * (MAX_TRANSACTIONS + 1)}}
        assert "transactions" in judged(many)
        with pytest.raises(Unusable):
            read_transactions(many)

    def test_transactions_alone(self) -> None:
        assert read_transactions(RIGHT) == BLOCK.transactions
        for nonsense in ({}, {"executionPayload": 5}, {"executionPayload": {"transactions": ["0x"]}}):
            with pytest.raises(Unusable):
                read_transactions(nonsense)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([*RIGHT]), st.none() | st.sampled_from([*PAYLOAD]), JSON, st.sampled_from([3, 4, 5]))
@settings(max_examples=examples(300))
def test_whatever_comes_it_is_the_right_block_or_a_reason(
    name: str, inner: str | None, value: Any, version: int
) -> None:
    sent = (
        {**RIGHT, name: value} if inner is None else {**RIGHT, "executionPayload": {**PAYLOAD, inner: value}}
    )
    try:
        candidate = from_envelope(sent, "", replace(REQUEST, version=version))
    except Unusable as error:
        assert str(error)
    else:
        assert candidate.payload == PAYLOAD


def flashblocks(count: int) -> Any:
    """The first one or two flashblocks of the right block."""
    builder, identity = ToyBuilder(PARENT), bytes(8)
    build = builder.builds[identity] = Build(PARENT, WANTED, [*WANTED.transactions])
    made = [builder.flashblock(identity, [])]
    build.published, build.transactions = 1, [*BLOCK.transactions]
    made.append(builder.flashblock(identity, [TX]))
    return tuple(made[:count])
