"""Published vectors of the pure OP rules: fees, base fee, extra data, payload ids, deposits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.reference import reference_path

from flashctl.eth.blocks import EMPTY_OMMERS_HASH, Header
from flashctl.eth.transactions import DepositTx, encode_transaction
from flashctl.op.attributes import InvalidAttributes, PayloadAttributes, check_attributes, payload_id
from flashctl.op.base_fee import next_base_fee
from flashctl.op.config import ChainConfig, parse_schedule
from flashctl.op.deposits import l1_attributes_source_hash, upgrade_source_hash, user_deposit_source_hash
from flashctl.op.envelope import TxEnvelope, recover_all
from flashctl.op.extra_data import (
    InvalidFeeParameters,
    decode_extra_data,
    decode_parameters,
    encode_extra_data,
)
from flashctl.op.fastlz import compressed_length
from flashctl.op.fees import L1FeeParameters, l1_fee, l1_gas_used, operator_fee, read_fee_parameters
from flashctl.op.forks import OpFork
from flashctl.op.l1_attributes import (
    InvalidL1Attributes,
    L1Attributes,
    attributes_layout,
    decode_l1_attributes,
    encode_l1_attributes,
    l1_attributes_deposit,
)


def vectors(name: str) -> Any:
    return json.loads(reference_path(f"op-vectors/{name}.json").read_text())


def unhex(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def number(value: int | str) -> int:
    return int(value, 0) if isinstance(value, str) else value


def chain_at(fork: OpFork, **constants: int) -> ChainConfig:
    """A chain that has had every fork up to this one from the start."""
    times = {each: 0 for each in OpFork if OpFork.BEDROCK < each <= fork}
    return ChainConfig(901, parse_schedule(times), **constants)  # type: ignore[arg-type]


def header(**fields: Any) -> Header:
    zero = bytes(32)
    values: dict[str, Any] = {
        "parent_hash": zero,
        "ommers_hash": EMPTY_OMMERS_HASH,
        "fee_recipient": bytes(20),
        "state_root": zero,
        "transactions_root": zero,
        "receipts_root": zero,
        "logs_bloom": bytes(256),
        "difficulty": 0,
        "number": 1,
        "gas_limit": 30_000_000,
        "gas_used": 0,
        "timestamp": 1,
        "extra_data": b"",
        "prev_randao": zero,
        "nonce": bytes(8),
        "base_fee_per_gas": 1,
    }
    return Header(**(values | fields))


class TestFastLz:
    def test_published_and_generated_lengths(self) -> None:
        known = vectors("fastlz")
        cases = known["vectors"] + known["parity_inputs"] + known["generated_from_contract"]
        assert len(cases) > 100
        for case in cases:
            assert compressed_length(unhex(case["input"])) == case["len"], case.get(
                "name", case["input"][:40]
            )

    def test_short_inputs_are_all_literals(self) -> None:
        assert [compressed_length(bytes(size)) for size in (0, 1, 12, 15)] == [0, 2, 13, 16]

    @given(st.binary(max_size=600))
    @settings(max_examples=examples(100))
    def test_never_longer_than_literals_only(self, data: bytes) -> None:
        assert compressed_length(data) <= len(data) + -(-len(data) // 32)


class TestFees:
    def test_l1_fee(self) -> None:
        for case in vectors("l1_fee"):
            raw, fork = unhex(case["tx"]), OpFork[case["fork"].upper()]
            parameters = L1FeeParameters(
                case["l1BaseFee"], case["blobBaseFee"], case["baseFeeScalar"], case["blobBaseFeeScalar"]
            )
            size = compressed_length(raw)
            assert l1_fee(parameters, fork, raw, size) == case["l1Fee"], case["source"]
            if "l1GasUsed" in case:
                assert l1_gas_used(parameters, fork, raw, size) == case["l1GasUsed"], case["source"]

    def test_an_empty_transaction_under_the_first_formulas(self) -> None:
        # The published fees of op-geth's rollup_cost_test.go follow from 480 gas of calldata.
        raw = bytes((1,)) * 30
        parameters = L1FeeParameters(1_000_000_000, overhead=50, scalar=7_000_000, bedrock_formula=True)
        assert l1_fee(parameters, OpFork.REGOLITH, raw, 0) == 3_710_000_000_000
        assert l1_fee(parameters, OpFork.BEDROCK, raw, 0) == 11_326_000_000_000
        assert l1_gas_used(parameters, OpFork.REGOLITH, raw, 0) == 530
        ecotone = L1FeeParameters(1_000_000_000, 10_000_000, 2, 3)
        assert l1_fee(ecotone, OpFork.ECOTONE, raw, 0) == 960_900

    def test_operator_fee(self) -> None:
        for case in vectors("operator_fee"):
            parameters = L1FeeParameters(
                0,
                operator_fee_scalar=case["operatorFeeScalar"],
                operator_fee_constant=case["operatorFeeConstant"],
            )
            assert operator_fee(parameters, OpFork[case["fork"].upper()], case["gas"]) == case["fee"]
            assert operator_fee(parameters, OpFork.HOLOCENE, case["gas"]) == 0


class Slots:
    """L1Block's storage, remembering what was read."""

    def __init__(self, values: dict[int, int]) -> None:
        self.values = values
        self.read: set[int] = set()

    def storage(self, address: int, slot: int, /) -> int:
        self.read.add(slot)
        return self.values.get(slot, 0)


class TestFeeParameterSlots:
    def test_each_fork_reads_its_own_slots_only(self) -> None:
        values = {1: 7, 3: 5 << 96 | 6 << 64, 5: 188, 6: 684000, 7: 9, 8: 400 << 96 | 11 << 64 | 12}
        expected = {
            OpFork.CANYON: {1, 5, 6},
            OpFork.ECOTONE: {1, 3, 7},
            OpFork.HOLOCENE: {1, 3, 7},
            OpFork.ISTHMUS: {1, 3, 7, 8},
        }
        for fork, slots in expected.items():
            state = Slots(values)
            read_fee_parameters(state, fork)
            assert state.read == slots, fork
        parameters = read_fee_parameters(Slots(values), OpFork.JOVIAN)
        assert parameters == L1FeeParameters(7, 9, 5, 6, 0, 0, False, 11, 12, 400)

    def test_ecotones_first_block_still_has_bedrocks_parameters(self) -> None:
        state = Slots({1: 7, 5: 188, 6: 684000})
        assert read_fee_parameters(state, OpFork.ECOTONE) == read_fee_parameters(state, OpFork.CANYON)

    @pytest.mark.parametrize(("fork", "fee"), [(OpFork.ISTHMUS, 21_777), (OpFork.JOVIAN, 2_100_000_000_777)])
    def test_without_scalars_of_the_data_fee_later_forks_parameters_hold(
        self, fork: OpFork, fee: int
    ) -> None:
        # A chain that charges no data fee: only the data fee falls back to Bedrock's parameters.
        parameters = read_fee_parameters(Slots({1: 10**9, 8: 123 << 96 | 1_000_000 << 64 | 777}), fork)
        assert operator_fee(parameters, fork, 21_000) == fee
        assert parameters.da_footprint_gas_scalar == (123 if fork >= OpFork.JOVIAN else 0)
        assert parameters.bedrock_formula


class TestBaseFee:
    def test_published_vectors(self) -> None:
        for case in vectors("base_fee")["vectors"]:
            fork = OpFork[case["fork"].upper()]
            config = chain_at(fork) if "parentExtraData" in case else chain_at(OpFork.BEDROCK)
            if fork is OpFork.CANYON:
                config = chain_at(fork)
            parent = header(
                gas_limit=case["parentGasLimit"],
                gas_used=case["parentGasUsed"],
                base_fee_per_gas=case["parentBaseFee"],
                extra_data=unhex(case.get("parentExtraData", "0x")),
            )
            assert next_base_fee(config, parent, parent.timestamp + 2) == case["expected"], case

    def test_jovian_counts_the_da_footprint_as_gas(self) -> None:
        extra = unhex("0x0100000032000000060000000000000000")
        parent = header(
            extra_data=extra, base_fee_per_gas=10**9, gas_used=5_000_000, blob_gas_used=10_000_000
        )
        config = chain_at(OpFork.JOVIAN)
        assert next_base_fee(config, parent, 3) == 10**9 + 10**9 // 50

    def test_the_denominator_of_canyon_applies_from_its_first_block(self) -> None:
        config = ChainConfig(901, parse_schedule({OpFork.CANYON: 10}))
        parent = header(timestamp=9, gas_used=10_000_000, base_fee_per_gas=10**9)
        assert next_base_fee(config, parent, 10) == 1_004_000_000


class TestExtraData:
    def test_attribute_parameters(self) -> None:
        for case in vectors("eip1559_params")["validate_params"]:
            if case["ok"]:
                decode_parameters(unhex(case["params"]))
                continue
            with pytest.raises(InvalidFeeParameters) as caught:
                decode_parameters(unhex(case["params"]))
            assert str(caught.value) == case["error"]

    def test_header_extra_data(self) -> None:
        for case in vectors("eip1559_params")["validate_holocene_extra"]:
            if case["ok"]:
                assert decode_extra_data(OpFork.HOLOCENE, unhex(case["extra"])) is not None
                continue
            with pytest.raises(InvalidFeeParameters) as caught:
                decode_extra_data(OpFork.HOLOCENE, unhex(case["extra"]))
            assert str(caught.value) == case["error"]

    def test_encoding(self) -> None:
        for case in vectors("eip1559_params")["encode"]:
            config = chain_at(
                OpFork[case["fork"].upper()],
                eip1559_denominator_canyon=case["default_denominator"],
                eip1559_elasticity=case["default_elasticity"],
            )
            extra = encode_extra_data(config, 1, unhex(case["params"]), case.get("minBaseFee"))
            assert extra == unhex(case["extra"])

    @pytest.mark.parametrize(
        ("fork", "parameters", "floor", "message"),
        [
            (OpFork.GRANITE, bytes(8), None, "got eip1559 params, expected none"),
            (OpFork.GRANITE, None, 0, "got minBaseFee"),
            (OpFork.HOLOCENE, None, None, "missing eip1559 params"),
            (OpFork.HOLOCENE, bytes(8), 1, "got minBaseFee"),
            (OpFork.JOVIAN, bytes(8), None, "missing minBaseFee"),
        ],
    )
    def test_fields_that_a_fork_requires_or_refuses(
        self, fork: OpFork, parameters: bytes | None, floor: int | None, message: str
    ) -> None:
        attributes = PayloadAttributes(
            timestamp=1,
            prev_randao=bytes(32),
            fee_recipient=bytes(20),
            gas_limit=1,
            parent_beacon_block_root=bytes(32),
            eip1559_params=parameters,
            min_base_fee=floor,
        )
        with pytest.raises(InvalidFeeParameters, match=message):
            check_attributes(chain_at(fork), attributes)

    def test_missing_gas_limit_and_beacon_root(self) -> None:
        attributes = PayloadAttributes(1, bytes(32), bytes(20))
        with pytest.raises(InvalidAttributes, match="missing gasLimit"):
            check_attributes(chain_at(OpFork.ECOTONE), attributes)
        attributes = PayloadAttributes(1, bytes(32), bytes(20), gas_limit=1)
        with pytest.raises(InvalidAttributes, match="missing parentBeaconBlockRoot"):
            check_attributes(chain_at(OpFork.ECOTONE), attributes)


class TestPayloadId:
    def test_published_and_derived(self) -> None:
        for case in vectors("payload_id")["vectors"]:
            wire = case["attributes"]
            floor = wire.get("minBaseFee")
            attributes = PayloadAttributes(
                timestamp=number(wire["timestamp"]),
                prev_randao=unhex(wire["prevRandao"]),
                fee_recipient=unhex(wire["suggestedFeeRecipient"]),
                transactions=tuple(map(unhex, wire["transactions"])),
                no_tx_pool=wire.get("noTxPool", False),
                gas_limit=number(wire["gasLimit"]),
                parent_beacon_block_root=unhex(wire["parentBeaconBlockRoot"]),
                eip1559_params=unhex(wire["eip1559Params"]) if "eip1559Params" in wire else None,
                min_base_fee=None if floor is None else number(floor),
            )
            found = payload_id(unhex(case["parentHash"]), attributes, case["version"])
            assert "0x" + found.hex() == case["payloadId"]


class TestDeposits:
    def test_source_hashes(self) -> None:
        known = vectors("deposit_source_hash")
        for case in known["upgrade"]:
            assert upgrade_source_hash(case["intent"]) == unhex(case["hash"])
        for case in known["l1info"]:
            found = l1_attributes_source_hash(unhex(case["l1BlockHash"]), case["seqNumber"])
            assert found == unhex(case["hash"])
        assert user_deposit_source_hash(bytes(32), 0) != l1_attributes_source_hash(bytes(32), 0)

    def test_raw_deposits_decode_with_their_hash_and_need_no_signature(self) -> None:
        cases = vectors("deposit_txs")
        for case, envelope in zip(cases, recover_all([unhex(case["raw"]) for case in cases]), strict=True):
            assert envelope.hash == unhex(case["hash"])
            assert envelope.sender == unhex(case["from"])
            assert envelope.is_deposit and isinstance(envelope.tx, DepositTx)
            assert envelope.tx.source_hash == unhex(case["sourceHash"])
            assert envelope.tx.mint == number(case["mint"])
            assert envelope.tx.is_system is case["isSystemTx"]
            assert encode_transaction(envelope.tx) == envelope.raw


class TestL1Attributes:
    def test_layouts_decode_and_encode(self) -> None:
        known = vectors("l1_attributes")
        for name in ("bedrock", "ecotone", "isthmus"):
            data = unhex(known[name] if name == "bedrock" else known[name]["data"])
            layout, attributes = decode_l1_attributes(data)
            assert layout.label == name
            assert encode_l1_attributes(attributes, layout) == data
        layout, attributes = decode_l1_attributes(unhex(known["ecotone"]["data"]))
        assert attributes.base_fee_scalar == known["ecotone"]["baseFeeScalar"]
        assert attributes.blob_base_fee == known["ecotone"]["blobBaseFee"]
        assert attributes.block_hash == unhex(known["ecotone"]["hash"])
        assert attributes.batcher == unhex(known["ecotone"]["batcher"])
        assert (attributes.number, attributes.timestamp) == (
            known["ecotone"]["number"],
            known["ecotone"]["time"],
        )
        _, attributes = decode_l1_attributes(unhex(known["isthmus"]["data"]))
        assert attributes.operator_fee_constant == known["isthmus"]["operatorFeeConstant"]

    def test_truncated_and_unknown_calls_are_refused(self) -> None:
        data = unhex(vectors("l1_attributes")["isthmus"]["data"])
        with pytest.raises(InvalidL1Attributes, match="isthmus L1 attributes are 176 bytes, got 175"):
            decode_l1_attributes(data[:-1])
        with pytest.raises(InvalidL1Attributes, match="selector 0x is no"):
            decode_l1_attributes(b"")

    def test_jovian_round_trip_and_activation_block(self) -> None:
        attributes = L1Attributes(
            5, 6, 7, b"h" * 32, 8, b"b" * 20, base_fee_scalar=9, da_footprint_gas_scalar=400
        )
        data = encode_l1_attributes(attributes, OpFork.JOVIAN)
        assert decode_l1_attributes(data) == (OpFork.JOVIAN, attributes)
        config = ChainConfig(901, parse_schedule({fork: 100 if fork >= 8 else 0 for fork in OpFork if fork}))
        assert attributes_layout(config, 100, 98) is OpFork.ISTHMUS
        assert attributes_layout(config, 102, 100) is OpFork.JOVIAN
        assert attributes_layout(config, 100, None) is OpFork.JOVIAN

    def test_the_deposit_of_a_known_block(self) -> None:
        case = vectors("payload_id")["vectors"][0]["attributes"]["transactions"][0]
        envelope = TxEnvelope.decode(unhex(case))
        assert isinstance(envelope.tx, DepositTx)
        layout, attributes = decode_l1_attributes(envelope.tx.data)
        assert encode_transaction(l1_attributes_deposit(attributes, layout)) == envelope.raw
