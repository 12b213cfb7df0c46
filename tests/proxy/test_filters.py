"""What a filter matches, and that the index finds exactly the filters that match."""

from __future__ import annotations

import json
from typing import Any

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.flashblocks import streamed_block
from support.reference import reference_path

from flashctl.core.hub import HubMessage, InvalidRequest, UpgradeRequest
from flashctl.eth.keccak import keccak256
from flashctl.eth.transactions import decode_transaction
from flashctl.proxy.stream_filters import (
    FilterIndex,
    Match,
    MessageTerms,
    StreamFilter,
    describe,
    parse_filter,
)

A, B, C = ("0x" + digit * 40 for digit in "abc")
T, U = ("0x" + digit * 64 for digit in "de")


def message(index: int = 1, *, binary: bool = False, **parts: Any) -> HubMessage:
    content = {"payload_id": "0x1", "index": index, "metadata": {"block_number": 1}, **parts}
    data = json.dumps(content).encode()
    return HubMessage(brotli.compress(data) if binary else data, binary=binary)


def receipts(*logs: dict, tagged: bool = False) -> dict:
    receipt = {"logs": list(logs)}
    return {
        "block_number": 1,
        "receipts": {"0x1": {"Eip1559": receipt} if tagged else {"type": "0x2", **receipt}},
    }


def log(address: str, *topics: str) -> dict:
    return {"address": address, "topics": list(topics)}


def wants(
    *, addresses: tuple[str, ...] = (), topics: tuple[str, ...] = (), match: Match = Match.ANY
) -> StreamFilter:
    return StreamFilter(frozenset(addresses), frozenset(topics), match)


class TestMatching:
    @pytest.mark.parametrize("tagged", [False, True])
    def test_logs(self, tagged: bool) -> None:
        seen = message(metadata=receipts(log(A, T), log(B, U, T), tagged=tagged))
        assert wants(addresses=(B,)).accepts(seen)
        assert wants(topics=(U,)).accepts(seen)
        assert not wants(addresses=(C,)).accepts(seen)

    def test_any_and_all(self) -> None:
        seen = message(metadata=receipts(log(A, T)))
        assert wants(addresses=(A,), topics=(U,)).accepts(seen)
        assert not wants(addresses=(A,), topics=(U,), match=Match.ALL).accepts(seen)
        assert wants(addresses=(A, C), topics=(T, U), match=Match.ALL).accepts(seen)
        assert wants(addresses=(A,), match=Match.ALL).accepts(seen)

    def test_changed_balances(self) -> None:
        seen = message(
            metadata={"block_number": 1, "new_account_balances": {A.upper().replace("0X", "0x"): "0x1"}}
        )
        assert wants(addresses=(A,)).accepts(seen)

    def test_base_goes_to_everybody(self) -> None:
        assert wants(addresses=(C,), topics=(U,), match=Match.ALL).accepts(message(index=0))

    def test_brotli(self) -> None:
        assert wants(addresses=(A,)).accepts(message(binary=True, metadata=receipts(log(A))))

    @pytest.mark.parametrize("data", [b"noise", b"[]", b"{}", b'{"diff":[],"metadata":7}', b"\xff"])
    def test_what_is_no_flashblock_matches_nothing(self, data: bytes) -> None:
        assert not wants(addresses=(A,), topics=(T,)).accepts(HubMessage(data, binary=False))

    @pytest.mark.parametrize(
        "part",
        [
            {"metadata": {"receipts": [1, None, {"logs": 5}, {"logs": [1, {"topics": 3, "address": 4}]}]}},
            {"diff": {"transactions": [1, None, "0x", "0xzz", "0x02c0"]}},
            {"metadata": {"receipts": {"0x1": {"Eip1559": 7}}}},
        ],
    )
    def test_odd_shapes_raise_nothing(self, part: dict) -> None:
        assert not wants(addresses=(A,)).accepts(message(**part))

    def test_described_once(self) -> None:
        seen = message(metadata=receipts(log(A)))
        assert describe(seen) is describe(seen)


class TestTransactions:
    """Streams without receipts: from, to and the created address come from the transactions."""

    def test_sender_recipient_and_deposit_of_a_recorded_block(self) -> None:
        from flashctl.eth.signatures import recover_sender

        found = checked = 0
        for content in streamed_block():
            content["metadata"] = {"block_number": 1}
            seen = HubMessage(json.dumps({**content, "index": 1}).encode(), binary=False)
            for raw in content["diff"]["transactions"]:
                transaction = decode_transaction(bytes.fromhex(raw[2:]))
                deposit = transaction.type_byte == 0x7E
                sender = transaction.sender if deposit else recover_sender(transaction)
                parties = [sender, transaction.to]
                for party in parties:
                    if party is not None:
                        checked += 1
                        found += wants(addresses=("0x" + party.hex(),)).accepts(seen)
        assert checked == found > 20

    def test_created_address(self) -> None:
        from flashctl.eth.signatures import address_of_secret, sign_transaction
        from flashctl.eth.transactions import FeeMarketTx, encode_transaction

        secret = b"\x01" * 32
        unsigned = FeeMarketTx(
            chain_id=1,
            nonce=0,
            max_priority_fee_per_gas=1,
            max_fee_per_gas=1,
            gas_limit=1,
            to=None,
            value=0,
            data=b"",
            access_list=(),
            y_parity=0,
            r=0,
            s=0,
        )
        raw = encode_transaction(sign_transaction(unsigned, secret))
        seen = message(diff={"transactions": ["0x" + raw.hex()]})
        sender = "0x" + address_of_secret(secret).hex()
        assert sender == "0x1a642f0e3c3af545e7acbd38b07251b3990914f1"
        assert wants(addresses=(sender,)).accepts(seen)
        rlp = pytest.importorskip("rlp")
        created = keccak256(rlp.encode([address_of_secret(secret), 0]))[12:]
        assert describe(seen).addresses == {sender, "0x" + created.hex()}


def test_the_sample_of_the_field() -> None:
    """node-reth's `test_with_real_data`."""
    content = json.loads(reference_path("flashblocks/websocket_proxy_filter_sample.json").read_bytes())
    seen = HubMessage(json.dumps({**content, "index": 1}).encode(), binary=False)
    assert wants(addresses=("0x4200000000000000000000000000000000000010",)).accepts(seen)
    assert wants(topics=("0xb0444523268717a02698be47d0803aa7468c00acbed2f8bd93a0459cde61dd89",)).accepts(seen)
    assert not wants(addresses=(A,), topics=(T,)).accepts(seen)


_TERMS = st.frozensets(st.sampled_from([A, B, C]), max_size=3)
_TOPICS = st.frozensets(st.sampled_from([T, U]), max_size=2)
_FILTERS = st.builds(StreamFilter, _TERMS, _TOPICS, st.sampled_from(Match)).filter(
    lambda f: f.addresses or f.topics
)


@settings(max_examples=examples(100))
@given(
    st.lists(st.tuples(st.booleans(), _FILTERS), max_size=12),
    st.builds(MessageTerms, st.booleans(), _TERMS, _TOPICS),
)
def test_the_index_finds_exactly_what_asking_everybody_would(
    steps: list[tuple[bool, StreamFilter]], terms: MessageTerms
) -> None:
    index, present = FilterIndex(), set()
    for adding, wanted in steps:
        if adding and wanted not in present:
            index.add(wanted)
            present.add(wanted)
        elif not adding and wanted in present:
            index.remove(wanted)
            present.discard(wanted)
    seen = HubMessage(b"", binary=False)
    seen.facts = terms
    found = list(index.select(seen))
    assert sorted(map(hash, found)) == sorted(hash(wanted) for wanted in present if wanted.accepts(seen))
    for wanted in present:
        index.remove(wanted)
    assert not index._by_term, "nothing is left behind"


def test_a_message_nobody_filters_is_not_parsed() -> None:
    seen = message()
    assert list(FilterIndex().select(seen)) == []
    assert seen.facts is None


class TestQuery:
    @staticmethod
    def parse(**query: str) -> StreamFilter | None:
        return parse_filter(UpgradeRequest("GET", "/ws/filter", {k: [v] for k, v in query.items()}, (), ""))

    def test_lists(self) -> None:
        assert self.parse(addresses=f" {A} ,,{B.upper().replace('0X', '0x')},{A}", topics=T) == wants(
            addresses=(A, B), topics=(T,)
        )

    def test_without_prefix(self) -> None:
        assert self.parse(addresses=A[2:]) == wants(addresses=(A,))

    def test_empty_is_the_whole_stream(self) -> None:
        assert self.parse() is None
        assert self.parse(addresses="", topics=" , ") is None

    def test_match(self) -> None:
        assert self.parse(addresses=A, match="ALL").match is Match.ALL
        assert self.parse(addresses=A, match="any").match is Match.ANY

    @pytest.mark.parametrize(
        "query",
        [
            {"addresses": "0x12"},
            {"addresses": T},
            {"topics": A},
            {"addresses": A, "match": "some"},
            {"addresses": ",".join(f"0x{n:040x}" for n in range(1001))},
        ],
    )
    def test_refused(self, query: dict[str, str]) -> None:
        with pytest.raises(InvalidRequest) as caught:
            self.parse(**query)
        assert caught.value.response.status == 400

    def test_a_repeated_parameter(self) -> None:
        request = UpgradeRequest("GET", "/ws/filter", {"addresses": [A, B]}, (), "")
        with pytest.raises(InvalidRequest, match="duplicate field `addresses`"):
            parse_filter(request)
