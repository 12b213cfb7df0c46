"""Every dialect of the wire decodes, nothing unknown is lost, and nothing hostile gets past the limits."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from typing import Any

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from support.flashblocks import base_sepolia_block, derived_blocks, make_flashblock, rollup_boost_message
from support.reference import reference_path

from flashctl.core.flashblocks import wire
from flashctl.core.flashblocks.assembly import full_block
from flashctl.core.flashblocks.dialects import DIALECTS, FULL
from flashctl.core.flashblocks.sequence import Assembler
from flashctl.core.flashblocks.wire import FrameTooLarge, InvalidFlashblock, Metadata
from flashctl.eth.keccak import keccak256


def text(message: Any) -> bytes:
    return json.dumps(message).encode()


def minimal(**changes: Any) -> dict[str, Any]:
    """The least that is a flashblock, as a JSON object."""
    message = wire.to_object(make_flashblock())
    return {**message, **changes}


class TestRecordings:
    def test_base_sepolia_block(self) -> None:
        flashblocks = [wire.decode(text(message)) for message in base_sepolia_block()]
        assert [flashblock.index for flashblock in flashblocks] == list(range(11))
        assert {flashblock.block_number for flashblock in flashblocks} == {33439826}
        assert sum(len(flashblock.diff.transactions) for flashblock in flashblocks) == 24
        assert flashblocks[-1].diff.gas_used == 0x49F43C
        assert flashblocks[-1].diff.receipts_root.hex().startswith("aa280e93")
        assert flashblocks[0].base is not None and flashblocks[1].base is None
        assert all(flashblock.diff.state_root == wire.ZERO_HASH for flashblock in flashblocks)

    def test_rollup_boost_message(self) -> None:
        message = rollup_boost_message()
        flashblock = wire.decode(text(message))
        assert flashblock.block_number == 78
        receipts = flashblock.metadata.receipts
        assert receipts is not None
        assert {"0x" + keccak256(raw).hex() for raw in flashblock.diff.transactions} == set(receipts)

    def test_pinned_messages_of_three_versions(self) -> None:
        samples = json.loads(reference_path("flashblocks/base_wire_format_samples.json").read_bytes())
        first, second, later = [wire.from_object(message) for message in samples.values()]
        assert first.block_number == second.block_number == 9  # base says 9, their metadata says otherwise
        assert second.metadata.extra == {"access_list": None}
        assert later.base is None and later.block_number == 99

    def test_a_message_that_a_filter_has_cut_down_is_refused(self) -> None:
        sample = json.loads(reference_path("flashblocks/websocket_proxy_filter_sample.json").read_bytes())
        with pytest.raises(InvalidFlashblock, match="diff: missing"):
            wire.from_object(sample)

    def test_block_hashes_of_whole_blocks_can_be_rebuilt(self) -> None:
        for recording in derived_blocks():
            assembler = Assembler()
            for message in recording["flashblocks"]:
                assembler.feed(wire.from_object(message), 0)
                assert assembler.payload is not None
                assert full_block(assembler.payload).hash == assembler.payload.diff.block_hash
            assert "0x" + assembler.payload.diff.block_hash.hex() == recording["final_block_hash"]


class TestFraming:
    @pytest.mark.parametrize("pack", [bytes, wire.compress, zstandard.compress])
    def test_binary_frames_are_sniffed(self, pack: Any) -> None:
        flashblock = make_flashblock(transactions=(b"\x02" * 200,))
        assert wire.decode(pack(wire.encode(flashblock)), binary=True) == wire.decode(wire.encode(flashblock))

    def test_white_space_before_the_brace(self) -> None:
        assert wire.decode(b" \n\t" + text(minimal()), binary=True).index == 0

    @pytest.mark.parametrize("pack", [brotli.compress, zstandard.compress])
    def test_a_bomb_stops_at_the_limit(self, pack: Any) -> None:
        bomb = pack(b"{" + b" " * (64 * 1024 * 1024))
        assert len(bomb) < 100_000
        with pytest.raises(FrameTooLarge) as caught:
            wire.decode(bomb, binary=True, max_decompressed=1024 * 1024)
        assert caught.value.limit == 1024 * 1024

    def test_ten_megabytes_are_a_lot_but_no_error_in_themselves(self) -> None:
        flashblock = make_flashblock(transactions=(b"\x02" * 5_000_000,))
        frame = wire.encode(flashblock)
        assert len(frame) > 10_000_000
        assert wire.decode(frame).diff.transactions == flashblock.diff.transactions
        with pytest.raises(FrameTooLarge):
            wire.decode(frame, max_decompressed=1_000_000)

    @pytest.mark.parametrize("cut", [0, 1, 10, -1])
    @pytest.mark.parametrize("pack", [wire.compress, zstandard.compress])
    def test_truncated_compression(self, pack: Any, cut: int) -> None:
        with pytest.raises(InvalidFlashblock):
            wire.decode(pack(text(minimal()))[:cut], binary=True)

    @given(st.binary(max_size=300), st.booleans())
    def test_garbage_is_an_error_and_nothing_else(self, data: bytes, binary: bool) -> None:
        with pytest.raises(InvalidFlashblock):
            wire.decode(data, binary=binary)


class TestDialects:
    def test_camel_case_in_a_json_rpc_notification(self) -> None:
        flashblock = make_flashblock(block=7, transactions=(b"\x02\x01",), gas_used=5)
        plain = wire.to_object(flashblock, FULL)

        def camel(mapping: dict[str, Any]) -> dict[str, Any]:
            return {
                key.split("_")[0] + "".join(map(str.capitalize, key.split("_")[1:])): value
                for key, value in mapping.items()
            }

        nested = {key: camel(value) if isinstance(value, dict) else value for key, value in plain.items()}
        wrapped = {
            "jsonrpc": "2.0",
            "method": "subscribe",
            "params": {"subscription": "1", "result": {**camel(nested), "index": "0"}},
        }
        assert wire.decode(text(wrapped)) == flashblock

    def test_keys_inside_receipts_keep_their_case(self) -> None:
        message = {"payloadId": "0x" + "00" * 8, "index": "3", "diff": {"transactions": [], "gasUsed": "0x1"}}
        message["metadata"] = {"blockNumber": 4, "receipts": {"0xAB": {"cumulativeGasUsed": "0x1"}}}
        assert wire.decode(text(message)).metadata.receipts == {"0xAB": {"cumulativeGasUsed": "0x1"}}

    def test_answers_of_a_node_are_recognised(self) -> None:
        with pytest.raises(InvalidFlashblock) as caught:
            wire.decode(text({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no"}}))
        assert caught.value.hint is not None and "JSON-RPC" in caught.value.hint

    def test_static_is_the_early_name_of_base(self) -> None:
        message = minimal()
        message["static"] = message.pop("base")
        assert wire.from_object(message).base is not None

    def test_null_base_is_no_base(self) -> None:
        assert wire.from_object(minimal(index=1, base=None)).base is None

    def test_unknown_fields_survive_at_every_level(self) -> None:
        message = minimal(new_top={"a": [1]})
        message["base"]["new_base"] = "x"
        message["diff"]["new_diff"] = None
        message["metadata"] |= {"access_list": [], "prev_flashblock_id": "0-10"}
        flashblock = wire.from_object(message)
        assert wire.to_object(flashblock, FULL) == {
            **message,
            "metadata": message["metadata"],
        }

    def test_metadata_of_an_unexpected_shape_is_kept_not_refused(self) -> None:
        flashblock = wire.from_object(
            minimal(metadata={"block_number": 1, "receipts": [], "new_account_balances": 3})
        )
        assert flashblock.metadata.receipts is None
        assert flashblock.metadata.extra == {"receipts": [], "new_account_balances": 3}

    def test_what_each_dialect_writes(self) -> None:
        flashblock = replace(
            make_flashblock(block=9),
            metadata=Metadata(9, {"0x01": "0x2"}, {"0x03": {"type": "0x2"}}, "8-10", {"changes": 1}),
        )
        flashblock = replace(
            flashblock, diff=replace(flashblock.diff, state_root=b"\x01" * 32, block_hash=b"\x02" * 32)
        )
        written = {name: wire.to_object(flashblock, dialect) for name, dialect in DIALECTS.items()}
        assert list(written["op-rbuilder"]["metadata"]) == [
            "block_number",
            "new_account_balances",
            "receipts",
        ]
        assert written["base"]["metadata"] == {"block_number": 9, "prev_flashblock_id": "8-10"}
        assert written["subblocks"]["diff"]["state_root"] == "0x" + "00" * 32
        assert written["full"]["metadata"]["changes"] == 1
        assert wire.decode(wire.encode(flashblock, FULL)) == flashblock


class TestErrorsNameTheField:
    @pytest.mark.parametrize(
        ("path", "value", "reason"),
        [
            ("payload_id", "0x01", "expected 8 bytes, got 1"),
            ("payload_id", None, "expected 0x-prefixed hex, got null"),
            ("index", -1, "expected an integer up to 65535, got the number -1"),
            ("index", True, "expected an integer up to 65535, got a boolean"),
            ("index", 2**16, "expected an integer up to 65535"),
            ("index", 2**64, "expected an integer up to 65535"),
            ("index", "0x-9", "expected an integer up to 65535, got '0x-9'"),
            ("index", "0x 9", "expected an integer"),
            ("index", "+9", "expected an integer"),
            ("index", "1_0", "expected an integer"),
            ("index", "09", "expected an integer"),
            ("index", "", "expected an integer"),
            ("index", "\u0663", "expected an integer"),
            ("diff", [], "expected an object, got a list"),
            ("diff.gas_used", 3, "expected a hex quantity up to 0x7fffffffffffffff, got the number 3"),
            ("diff.gas_used", "0x-5", "expected a hex quantity"),
            ("diff.gas_used", "0x+5", "expected a hex quantity"),
            ("diff.gas_used", "0x5 ", "expected a hex quantity"),
            ("diff.gas_used", "0x8000000000000000", "expected a hex quantity"),
            ("diff.gas_used", "0x" + "f" * 65, "expected a hex quantity"),
            ("diff.transactions", "0x", "expected a list, got '0x'"),
            ("diff.transactions", ["0x02", "0x0"], "not hex digits in pairs"),
            ("diff.transactions", ["0x0 2"], "not hex digits|white space"),
            ("diff.logs_bloom", "0x00", "expected 256 bytes, got 1"),
            ("base.timestamp", "0x1_0", "expected a hex quantity"),
            ("base.timestamp", "0x" + "1" * 64, "expected a hex quantity up to 0x3afff4417f"),
            ("base.block_number", "0x-1", "expected a hex quantity"),
            ("base.base_fee_per_gas", "0x\u0663", "expected a hex quantity"),
            ("metadata.block_number", "0x_1", "expected an integer"),
            ("metadata.block_number", 2**63, "expected an integer up to 9223372036854775807"),
            ("metadata", "x" * 100, "expected an object, got 'xxxxxxxxxxxxxxxxxxxx"),
            ("metadata.block_number", 1.5, "expected an integer"),
        ],
    )
    def test_field(self, path: str, value: Any, reason: str) -> None:
        message = minimal()
        target = message
        *parents, last = path.split(".")
        for name in parents:
            target = target[name]
        target[last] = value
        with pytest.raises(InvalidFlashblock, match=reason) as caught:
            wire.from_object(message)
        assert caught.value.where.startswith(path)
        assert len(str(caught.value)) < 200

    def test_no_block_number_anywhere(self) -> None:
        with pytest.raises(InvalidFlashblock, match=r"metadata\.block_number"):
            wire.from_object(minimal(index=1, base=None, metadata={}))

    @pytest.mark.parametrize("frame", ["[]", "null", '"x"', "<html>", "{", '{"a":' * 2000, "\ud83d"])
    def test_json_of_something_else(self, frame: str) -> None:
        with pytest.raises(InvalidFlashblock):
            wire.decode(frame.encode(errors="surrogatepass"))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**70)
    | st.text(string.printable, max_size=5)
    | st.just("0x" + "00" * 32),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["transactions", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(st.data())
def test_any_field_may_hold_anything(data: st.DataObject) -> None:
    """A message with one value replaced decodes or raises InvalidFlashblock; nothing else happens."""
    message = minimal()
    holder = data.draw(st.sampled_from([message, message["base"], message["diff"], message["metadata"]]))
    holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(json_values)
    try:
        flashblock = wire.from_object(message)
    except InvalidFlashblock:
        return
    assert wire.from_object(wire.to_object(flashblock, FULL)).diff == flashblock.diff
