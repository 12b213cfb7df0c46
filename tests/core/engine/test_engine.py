"""Engine API objects: real blocks round-trip, bad fields are named, versions follow forks, real calls."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.reference import reference_path

from flashctl.core.engine.client import EngineClient, requests_of
from flashctl.core.engine.payloads import (
    BlockHashMismatch,
    ForkchoiceResult,
    ForkchoiceState,
    InvalidEngineObject,
    PayloadStatus,
    PayloadValidity,
    attributes_from_json,
    attributes_to_json,
    envelope_to_json,
    forkchoice_version,
    get_payload_version,
    new_payload_version,
    payload_from_json,
    payload_id_from_json,
    payload_to_json,
)
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.server import serve
from flashctl.errors import ProtocolError
from flashctl.eth.blocks import (
    EMPTY_OMMERS_HASH,
    EMPTY_REQUESTS_HASH,
    EMPTY_TRIE_ROOT,
    Block,
    Header,
    decode_header,
)
from flashctl.eth.ordered_trie import ordered_root
from flashctl.op.attributes import PayloadAttributes, payload_id
from flashctl.op.forks import OpFork

RAW = bytes.fromhex("02c0")
SECRET = bytes(32)


def block(fork: OpFork = OpFork.JOVIAN, transactions: tuple[bytes, ...] = (RAW,)) -> Block:
    """A block with the header fields of `fork`."""
    header = Header(
        parent_hash=b"\x01" * 32,
        ommers_hash=EMPTY_OMMERS_HASH,
        fee_recipient=b"\x02" * 20,
        state_root=b"\x03" * 32,
        transactions_root=ordered_root(transactions),
        receipts_root=b"\x04" * 32,
        logs_bloom=bytes(256),
        difficulty=0,
        number=7,
        gas_limit=30_000_000,
        gas_used=21_000,
        timestamp=1_700_000_000,
        extra_data=bytes(17),
        prev_randao=b"\x05" * 32,
        nonce=bytes(8),
        base_fee_per_gas=10**9,
        withdrawals_root=None if fork < OpFork.CANYON else EMPTY_TRIE_ROOT,
        blob_gas_used=None if fork < OpFork.ECOTONE else 0,
        excess_blob_gas=None if fork < OpFork.ECOTONE else 0,
        parent_beacon_block_root=None if fork < OpFork.ECOTONE else b"\x06" * 32,
        requests_hash=None if fork < OpFork.ISTHMUS else EMPTY_REQUESTS_HASH,
    )
    return Block(header, transactions, None if fork < OpFork.CANYON else ())


def reread(original: Block, payload: dict[str, Any]) -> Block:
    header = original.header
    requests: list[Any] | None = None if header.requests_hash is None else []
    return payload_from_json(payload, header.parent_beacon_block_root, requests=requests)


class TestPayloads:
    @pytest.mark.parametrize("fork", [OpFork.REGOLITH, OpFork.CANYON, OpFork.ECOTONE, OpFork.ISTHMUS])
    def test_round_trip_at_every_shape(self, fork: OpFork) -> None:
        original = block(fork)
        payload = json.loads(json.dumps(payload_to_json(original)))
        assert reread(original, payload) == original
        assert ("withdrawals" in payload, "blobGasUsed" in payload, "withdrawalsRoot" in payload) == (
            fork >= OpFork.CANYON,
            fork >= OpFork.ECOTONE,
            fork >= OpFork.ISTHMUS,
        )

    def test_real_blocks(self) -> None:
        for path in sorted(Path(reference_path("op-blocks/dev")).glob("*.json.gz")):
            fixture = json.loads(gzip.decompress(path.read_bytes()))
            header = decode_header(bytes.fromhex(fixture["expected_header_rlp"][2:]))
            raws = tuple(bytes.fromhex(raw[2:]) for raw in fixture["payload_attributes"]["transactions"])
            original = Block(header, raws)
            payload = payload_to_json(original)
            assert payload["blockHash"] == fixture["expected_block_hash"]
            assert reread(original, payload) == original
            attributes = attributes_from_json(fixture["payload_attributes"])
            assert attributes.transactions == raws

    def test_envelope(self) -> None:
        envelope = envelope_to_json(block(), block_value=5)
        assert set(envelope) == {
            "executionPayload",
            "blockValue",
            "blobsBundle",
            "shouldOverrideBuilder",
            "parentBeaconBlockRoot",
            "executionRequests",
        }
        assert envelope["parentBeaconBlockRoot"] == "0x" + "06" * 32
        assert "executionRequests" not in envelope_to_json(block(OpFork.HOLOCENE))
        assert set(envelope_to_json(block(OpFork.CANYON))) == {"executionPayload", "blockValue"}
        assert requests_of(envelope) == requests_of({}) == []

    def test_changed_payload_does_not_hash_to_its_name(self) -> None:
        payload = payload_to_json(block()) | {"gasUsed": "0x1"}
        with pytest.raises(BlockHashMismatch, match="blockhash mismatch") as caught:
            reread(block(), payload)
        assert caught.value.stated == block().hash

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"parentHash": None}, "payload: missing parentHash"),
            ({"stateRoot": "0x12"}, "stateRoot: .*1 bytes, expected 32"),
            ({"stateRoot": 5}, "stateRoot: .*expected a string"),
            ({"blockNumber": "7"}, "blockNumber: .*no 0x prefix"),
            ({"gasLimit": "0x1" + "0" * 16}, "gasLimit does not fit 64 bits"),
            ({"gasLimit": -1}, "gasLimit does not fit"),
            ({"timestamp": True}, "timestamp"),
            ({"transactions": "0x"}, "transactions is not a list"),
            ({"transactions": ["0x0"]}, "transactions: .*odd number"),
            ({"transactions": ["0x"]}, "empty transaction"),
            ({"extraData": "0x" + "00" * 33}, "longer than 32"),
            ({"withdrawals": [{}]}, "no withdrawals"),
            ({"withdrawalsRoot": None}, "missing withdrawalsRoot"),
            ({"blobGasUsed": None}, "missing blobGasUsed"),
        ],
    )
    def test_bad_fields_are_named(self, change: dict[str, Any], reason: str) -> None:
        with pytest.raises(InvalidEngineObject, match=reason):
            reread(block(), payload_to_json(block()) | change)

    def test_not_an_object(self) -> None:
        with pytest.raises(InvalidEngineObject, match="payload is not an object"):
            payload_from_json([])
        with pytest.raises(InvalidEngineObject, match="no execution requests"):
            payload_from_json(payload_to_json(block()), b"\x06" * 32, requests=["0x00"])

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
            ),
            max_leaves=8,
        )
    )
    @settings(max_examples=examples(100))
    def test_any_json_is_refused_cleanly(self, value: Any) -> None:
        for read in (
            payload_from_json,
            attributes_from_json,
            PayloadStatus.from_json,
            ForkchoiceState.from_json,
        ):
            with pytest.raises(InvalidEngineObject):
                read(value)
        for key in ("stateRoot", "transactions", "gasUsed", "extraData"):
            with pytest.raises((InvalidEngineObject, BlockHashMismatch)):
                reread(block(), payload_to_json(block()) | {key: value})


class TestAttributes:
    ATTRIBUTES = PayloadAttributes(
        timestamp=1_700_000_002,
        prev_randao=b"\x01" * 32,
        fee_recipient=b"\x02" * 20,
        transactions=(RAW, RAW),
        no_tx_pool=True,
        gas_limit=30_000_000,
        parent_beacon_block_root=b"\x03" * 32,
        eip1559_params=bytes(8),
        min_base_fee=100,
    )

    def test_round_trip(self) -> None:
        as_json = json.loads(json.dumps(attributes_to_json(self.ATTRIBUTES)))
        assert attributes_from_json(as_json) == self.ATTRIBUTES
        assert as_json["minBaseFee"] == 100
        assert as_json["gasLimit"] == "0x1c9c380"

    def test_optional_fields_stay_absent(self) -> None:
        bare = PayloadAttributes(1, bytes(32), bytes(20), withdrawals=None)
        as_json = attributes_to_json(bare)
        assert set(as_json) == {
            "timestamp",
            "prevRandao",
            "suggestedFeeRecipient",
            "transactions",
            "noTxPool",
        }
        assert attributes_from_json(as_json) == bare

    def test_hex_minimum_base_fee_is_read_too(self) -> None:
        as_json = attributes_to_json(self.ATTRIBUTES) | {"minBaseFee": "0x64"}
        assert attributes_from_json(as_json) == self.ATTRIBUTES

    @pytest.mark.parametrize(
        "change", [{"noTxPool": 1}, {"withdrawals": [{}]}, {"timestamp": None}, {"eip1559Params": "0x00"}]
    )
    def test_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(InvalidEngineObject, match="payload attributes"):
            attributes_from_json(attributes_to_json(self.ATTRIBUTES) | change)

    def test_ids_of_op_geth(self) -> None:
        vectors = json.loads(Path(reference_path("op-vectors/payload_id.json")).read_text())["vectors"]
        for vector in vectors:
            attributes = attributes_from_json(vector["attributes"])
            parent = bytes.fromhex(vector["parentHash"][2:])
            assert payload_id(parent, attributes, vector["version"]).hex() == vector["payloadId"][2:]


class TestSmallObjects:
    def test_status(self) -> None:
        for status in (
            PayloadStatus(PayloadValidity.VALID, b"\x01" * 32),
            PayloadStatus(PayloadValidity.INVALID, None, "bad state root"),
            PayloadStatus(PayloadValidity.SYNCING),
        ):
            assert PayloadStatus.from_json(status.to_json()) == status
        with pytest.raises(InvalidEngineObject, match="unknown payload status 'FINE'"):
            PayloadStatus.from_json({"status": "FINE"})

    def test_forkchoice(self) -> None:
        state = ForkchoiceState(b"\x01" * 32, bytes(32), bytes(32))
        assert ForkchoiceState.from_json(state.to_json()) == state
        for payload_id_or_none in (None, bytes(8)):
            result = ForkchoiceResult(PayloadStatus(PayloadValidity.VALID), payload_id_or_none)
            assert ForkchoiceResult.from_json(result.to_json()) == result

    def test_payload_id(self) -> None:
        assert payload_id_from_json("0x03d2dae446d2a86a")[0] == 3
        for bad in ("0x03", None, 3, "03d2dae446d2a86a"):
            with pytest.raises(InvalidEngineObject, match="invalid payload id"):
                payload_id_from_json(bad)

    @pytest.mark.parametrize(
        ("fork", "versions"),
        [
            (OpFork.REGOLITH, (1, 1, 1)),
            (OpFork.CANYON, (2, 2, 2)),
            (OpFork.ECOTONE, (3, 3, 3)),
            (OpFork.HOLOCENE, (3, 3, 3)),
            (OpFork.ISTHMUS, (3, 4, 4)),
            (OpFork.JOVIAN, (3, 4, 4)),
            (OpFork.KARST, (3, 5, 4)),
        ],
    )
    def test_versions(self, fork: OpFork, versions: tuple[int, int, int]) -> None:
        assert (forkchoice_version(fork), get_payload_version(fork), new_payload_version(fork)) == versions


def test_client_against_a_server() -> None:
    seen: list[tuple[str, list[Any]]] = []
    envelope = envelope_to_json(block()) | {"somethingNew": 1}

    async def main() -> None:
        async def forkchoice(params: list[Any]) -> Any:
            seen.append(("fcu", params))
            ForkchoiceState.from_json(params[0])
            return ForkchoiceResult(PayloadStatus(PayloadValidity.VALID, bytes(32)), b"\x03" * 8).to_json()

        async def get_payload(params: list[Any]) -> Any:
            if payload_id_from_json(params[0]) != b"\x03" * 8:
                raise RpcError(ErrorCode.UNKNOWN_PAYLOAD, "Unknown payload")
            return envelope

        async def new_payload(params: list[Any]) -> Any:
            seen.append(("new", params))
            made = payload_from_json(params[0], bytes.fromhex(params[2][2:]), requests=params[3])
            return PayloadStatus(PayloadValidity.VALID, made.hash).to_json()

        async def nonsense(params: list[Any]) -> Any:
            return "nonsense"

        methods = Methods()
        methods.register("engine_forkchoiceUpdatedV3", forkchoice)
        methods.register("engine_getPayloadV4", get_payload)
        methods.register("engine_newPayloadV4", new_payload)
        for method in ("engine_getPayloadV3", "engine_newPayloadV3", "engine_forkchoiceUpdatedV2"):
            methods.register(method, nonsense)
        methods.register("engine_exchangeCapabilities", nonsense)
        server = await serve(methods, "127.0.0.1", 0, jwt_secret=SECRET)
        client = EngineClient(server.url, jwt_secret=SECRET)
        state = ForkchoiceState(bytes(32), bytes(32), bytes(32))
        result = await client.forkchoice_updated(state, TestAttributes.ATTRIBUTES)
        assert result.payload_id == b"\x03" * 8
        got = await client.get_payload(result.payload_id, version=4)
        assert got == envelope
        status = await client.new_payload(
            got["executionPayload"], block().header.parent_beacon_block_root, version=4
        )
        assert status == PayloadStatus(PayloadValidity.VALID, block().hash)
        assert seen[1][1][1:] == [[], "0x" + "06" * 32, []]
        with pytest.raises(RpcError, match="Unknown payload") as unknown:
            await client.get_payload(bytes(8), version=4)
        assert unknown.value.code == -38001
        for call in (
            client.get_payload(bytes(8), version=3),
            client.new_payload({}, None, version=3),
            client.forkchoice_updated(state, version=2),
            client.exchange_capabilities([]),
        ):
            with pytest.raises(ProtocolError, match="answered engine_"):
                await call
        await client.close()
        await server.close()

    asyncio.run(main())
