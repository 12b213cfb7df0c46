"""Transactions with what is derived from them, and readers that must survive any input."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.op_chain import SENDER, attributes_deposit, transfer

from flashctl.errors import DataError
from flashctl.eth.keccak import keccak256
from flashctl.eth.transactions import InvalidTransaction
from flashctl.op.config import ChainConfig
from flashctl.op.envelope import TxEnvelope, recover_all
from flashctl.op.extra_data import decode_extra_data, decode_parameters
from flashctl.op.fastlz import compressed_length
from flashctl.op.forks import OpFork
from flashctl.op.l1_attributes import decode_l1_attributes, encode_l1_attributes, stated_footprint_scalar

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=8,
)
CONFIG_KEYS = (
    "chainId",
    "l2_chain_id",
    "canyonTime",
    "canyon_time",
    "optimism",
    "chain_op_config",
    "genesis",
    "cancunTime",
)


class TestEnvelope:
    def test_hash_sender_and_sizes(self) -> None:
        envelope = transfer(3)
        again = TxEnvelope.decode(envelope.raw)
        assert again.hash == keccak256(envelope.raw) == envelope.hash
        assert again.sender == SENDER
        assert again.fastlz_size == compressed_length(envelope.raw)
        assert again.da_size == 100
        assert not again.is_deposit and attributes_deposit().is_deposit

    def test_a_large_transaction_has_more_than_the_least_da_size(self) -> None:
        data = b"".join(keccak256(bytes((index,))) for index in range(32))
        envelope = transfer(0, data=data)
        assert envelope.da_size == (836_500 * envelope.fastlz_size - 42_585_600) // 1_000_000 > 800

    def test_many_are_recovered_in_order(self) -> None:
        raws = [transfer(nonce).raw for nonce in range(40)] + [attributes_deposit().raw]
        assert [envelope.raw for envelope in recover_all(raws)] == raws
        assert recover_all([]) == []

    def test_the_first_that_is_wrong_is_reported(self) -> None:
        raws = [transfer(nonce).raw for nonce in range(20)]
        raws[7] = raws[7][:-1]
        with pytest.raises(InvalidTransaction):
            recover_all(raws)


class TestAnyInput:
    """Everything here comes from outside; a refusal is a DataError, never another exception."""

    @given(st.sampled_from(OpFork), st.binary(max_size=40))
    @settings(max_examples=examples(150))
    def test_extra_data(self, fork: OpFork, data: bytes) -> None:
        for reader in (decode_parameters, lambda extra: decode_extra_data(fork, extra)):
            try:
                reader(data)
            except DataError as error:
                assert "\n" not in str(error)

    @given(
        st.sampled_from(("015d8eb9", "440a5e20", "098999be", "3db6be2b", "00000000")), st.binary(max_size=300)
    )
    @settings(max_examples=examples(150))
    def test_l1_attributes(self, selector: str, body: bytes) -> None:
        data = bytes.fromhex(selector) + body
        stated_footprint_scalar(data)
        try:
            layout, attributes = decode_l1_attributes(data)
        except DataError:
            return
        assert decode_l1_attributes(encode_l1_attributes(attributes, layout)) == (layout, attributes)

    @given(st.dictionaries(st.sampled_from(CONFIG_KEYS), JSON, max_size=8) | JSON)
    @settings(max_examples=examples(200))
    def test_chain_configs(self, value: Any) -> None:
        for read in (ChainConfig.from_genesis_config, ChainConfig.from_rollup):
            try:
                read(value)
            except DataError as error:
                assert "\n" not in str(error)
