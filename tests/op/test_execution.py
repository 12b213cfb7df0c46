"""Block execution: fees, deposits, rejections, forks, sealing in steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.op_chain import (
    CANYON,
    CHAIN_ID,
    ECOTONE,
    FJORD,
    HOLOCENE,
    ISTHMUS,
    JOVIAN,
    KARST,
    L1_ATTRIBUTES,
    SECRET,
    SENDER,
    START,
    VAULT,
    attributes_deposit,
    chain_at,
    envelope_of,
    no_ancestors,
    parent_header,
    transfer,
    world_with,
)

from flashctl.eth.blocks import EMPTY_TRIE_ROOT
from flashctl.eth.keccak import keccak256
from flashctl.eth.ordered_trie import ordered_root
from flashctl.eth.receipts import decode_receipt, encode_receipt
from flashctl.eth.signatures import sign_authorization, sign_transaction
from flashctl.eth.transactions import BlobTx, DepositTx, SetCodeTx, encode_transaction
from flashctl.evm.calls import create_address
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.message import Deadline
from flashctl.evm.world import World
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.config import ChainConfig
from flashctl.op.create2_deployer import CREATE2_DEPLOYER, CREATE2_DEPLOYER_CODE
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import BlockContext, BlockExecution, Rejection, TransactionRejected
from flashctl.op.fees import (
    BASE_FEE_VAULT,
    L1_BLOCK,
    L1_FEE_VAULT,
    OPERATOR_FEE_VAULT,
    L1FeeParameters,
    l1_fee,
)
from flashctl.op.forks import OpFork
from flashctl.op.rules import UnsupportedFork
from flashctl.op.system_calls import BEACON_ROOTS, HISTORY_STORAGE

RICH = 10**20
RECIPIENT = b"\x99" * 20
L1_BLOCK_BYTES = L1_BLOCK.to_bytes(20, "big")
PASSER = bytes.fromhex("4200000000000000000000000000000000000016")
REVERTER = b"\xde" * 20
LOOPER = b"\x10" * 20
STORER = b"\x57" * 20
LOGGER = b"\x70" * 20
CODES = {
    REVERTER: bytes.fromhex("5f5ffd"),
    LOOPER: bytes.fromhex("5b5f56"),
    STORER: bytes.fromhex("60015f5500"),
    LOGGER: bytes.fromhex("7f" + "ab" * 32 + "60205fa100"),
}
BEACON_ROOTS_CODE = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe14604d57602036146024575f5ffd5b5f35801560495762001fff8106908154"
    "14603c575f5ffd5b62001fff01545f5260205ff35b5f5ffd5b62001fff42064281555f359062001fff015500"
)
HISTORY_CODE = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111604257611fff814303116042"
    "57611fff9006545f5260205ff35b5f5ffd5b5f35611fff60014303065500"
)
FEES = L1FeeParameters(
    base_fee=1_000_000_000,
    blob_base_fee=1,
    base_fee_scalar=1368,
    blob_base_fee_scalar=810949,
    operator_fee_scalar=1_000_000,
    operator_fee_constant=500,
    da_footprint_gas_scalar=400,
)
L1_BLOCK_SLOTS = {
    1: FEES.base_fee,
    3: FEES.base_fee_scalar << 96 | FEES.blob_base_fee_scalar << 64,
    7: FEES.blob_base_fee,
    8: FEES.da_footprint_gas_scalar << 96 | FEES.operator_fee_scalar << 64 | FEES.operator_fee_constant,
}
GROUND = world_with(
    {SENDER: (RICH, b""), L1_BLOCK_BYTES: (1, b"")} | {address: (0, code) for address, code in CODES.items()},
    {(L1_BLOCK_BYTES, slot): value for slot, value in L1_BLOCK_SLOTS.items()},
)


def attributes(config: ChainConfig, **changes: Any) -> PayloadAttributes:
    fork = config.fork_at(START + 2)
    wanted = PayloadAttributes(
        timestamp=START + 2,
        prev_randao=b"\x33" * 32,
        fee_recipient=VAULT,
        gas_limit=30_000_000,
        parent_beacon_block_root=b"\x44" * 32 if fork >= OpFork.ECOTONE else None,
        eip1559_params=bytes(8) if fork >= OpFork.HOLOCENE else None,
        min_base_fee=0 if fork >= OpFork.JOVIAN else None,
    )
    return replace(wanted, **changes)


def opened(config: ChainConfig = JOVIAN, world: World = GROUND, **changes: Any) -> BlockExecution:
    parent = parent_header(config, world)
    context = BlockContext.from_attributes(config, parent, attributes(config, **changes))
    return BlockExecution(config, parent, context, world, no_ancestors)


def deposit(**changes: Any) -> TxEnvelope:
    tx = DepositTx(
        source_hash=b"\x01" * 32,
        sender=b"\xdd" * 20,
        to=RECIPIENT,
        mint=0,
        value=0,
        gas_limit=1_000_000,
        is_system=False,
        data=b"",
    )
    return envelope_of(replace(tx, **changes))


def balance(execution: BlockExecution, address: bytes | int) -> int:
    number = address if isinstance(address, int) else int.from_bytes(address, "big")
    return execution.state.get_account(number).balance


def nonce(execution: BlockExecution, address: bytes) -> int:
    return execution.state.get_account(int.from_bytes(address, "big")).nonce


class TestFees:
    @pytest.mark.parametrize("config", [CANYON, ECOTONE, FJORD, HOLOCENE, ISTHMUS, JOVIAN, KARST])
    def test_every_wei_arrives_somewhere(self, config: ChainConfig) -> None:
        execution = opened(config)
        tx = transfer(0, value=12_345)
        result = execution.execute(tx)
        fork = execution.fork
        base_fee = execution.context.base_fee
        scalar, constant = FEES.operator_fee_scalar, FEES.operator_fee_constant
        operator = {OpFork.ISTHMUS: 21_000 * scalar // 10**6 + constant}.get(
            fork, 21_000 * scalar * 100 + constant
        )
        assert result.gas_used == 21_000
        assert result.effective_gas_price == base_fee + 1_000
        assert result.operator_fee == (operator if fork >= OpFork.ISTHMUS else 0)
        assert result.l1_fee == l1_fee(execution.fee_parameters, fork, tx.raw, tx.fastlz_size)
        assert balance(execution, BASE_FEE_VAULT) == 21_000 * base_fee
        assert balance(execution, VAULT) == result.tip == execution.tips == 21_000_000
        assert balance(execution, L1_FEE_VAULT) == result.l1_fee
        assert balance(execution, OPERATOR_FEE_VAULT) == result.operator_fee
        paid = 21_000 * result.effective_gas_price + result.l1_fee + result.operator_fee
        assert balance(execution, SENDER) == RICH - 12_345 - paid
        assert balance(execution, RECIPIENT) == 12_345

    def test_funds_must_cover_the_operator_fee_of_the_whole_gas_limit(self) -> None:
        tx = transfer(0, gas_limit=50_000, value=0)
        data_fee = l1_fee(FEES, OpFork.JOVIAN, tx.raw, tx.fastlz_size)
        needed = 50_000 * 10_000_000 + data_fee + 50_000 * FEES.operator_fee_scalar * 100 + 500
        for funds, accepted in ((needed, True), (needed - 1, False)):
            world = world_with(
                {SENDER: (funds, b""), L1_BLOCK_BYTES: (1, b"")},
                {(L1_BLOCK_BYTES, slot): value for slot, value in L1_BLOCK_SLOTS.items()},
            )
            execution = opened(world=world)
            if accepted:
                assert execution.execute(tx).receipt.succeeded
            else:
                with pytest.raises(TransactionRejected, match="insufficient funds") as caught:
                    execution.execute(tx)
                assert caught.value.reason is Rejection.FUNDS

    def test_fee_parameters_are_those_that_the_blocks_own_deposit_left(self) -> None:
        # A contract that stores its first calldata word as slot 1 stands in for L1Block.
        world = world_with({SENDER: (RICH, b""), L1_BLOCK_BYTES: (0, bytes.fromhex("5f3560015500"))})
        execution = opened(FJORD, world)
        execution.execute(deposit(to=L1_BLOCK_BYTES, data=(5).to_bytes(32, "big")))
        assert execution.fee_parameters.base_fee == 5
        execution.execute(deposit(to=L1_BLOCK_BYTES, data=(6).to_bytes(32, "big")))
        assert execution.fee_parameters.base_fee == 6

    def test_a_failed_transaction_pays_too(self) -> None:
        execution = opened()
        result = execution.execute(transfer(0, to=LOOPER, value=0))
        assert not result.receipt.succeeded and result.halt_reason == "out of gas"
        assert result.gas_used == 100_000
        assert nonce(execution, SENDER) == 1


class TestDeposits:
    def test_mint_then_value(self) -> None:
        execution = opened()
        result = execution.execute(deposit(mint=100, value=60))
        assert balance(execution, b"\xdd" * 20) == 40
        assert balance(execution, RECIPIENT) == 60
        assert (result.gas_used, result.effective_gas_price, result.l1_fee) == (21_000, 0, 0)
        assert (result.receipt.deposit_nonce, result.receipt.deposit_receipt_version) == (0, 1)
        assert balance(execution, BASE_FEE_VAULT) == 0

    def test_a_revert_keeps_the_mint_and_reports_its_own_gas(self) -> None:
        execution = opened()
        result = execution.execute(deposit(to=REVERTER, mint=100, value=60))
        assert not result.receipt.succeeded and result.halt_reason is None
        assert result.gas_used == 21_004
        assert balance(execution, b"\xdd" * 20) == 100
        assert nonce(execution, b"\xdd" * 20) == 1

    @pytest.mark.parametrize(
        "broken",
        [{"value": 101}, {"gas_limit": 20_000}, {"is_system": True}, {"to": LOOPER}],
        ids=["value", "gas", "system", "halt"],
    )
    def test_a_deposit_that_cannot_run_uses_all_its_gas_and_a_nonce(self, broken: dict[str, Any]) -> None:
        execution = opened()
        envelope = deposit(mint=100, **broken)
        result = execution.execute(envelope)
        assert not result.receipt.succeeded
        assert result.gas_used == envelope.tx.gas_limit == execution.gas_used
        assert balance(execution, b"\xdd" * 20) == 100
        assert nonce(execution, b"\xdd" * 20) == 1
        assert result.receipt.logs == ()

    def test_the_receipt_has_the_nonce_before(self) -> None:
        execution = opened()
        for expected in range(3):
            receipt = execution.execute(deposit()).receipt
            assert receipt.deposit_nonce == expected
            assert decode_receipt(encode_receipt(receipt)) == receipt

    def test_a_creation_takes_its_address_from_that_nonce(self) -> None:
        execution = opened()
        execution.execute(deposit())
        result = execution.execute(deposit(to=None, data=bytes.fromhex("60015ff3")))
        expected = create_address(int.from_bytes(b"\xdd" * 20, "big"), 1)
        assert result.contract_address == expected.to_bytes(20, "big")
        assert execution.state.code_of(expected) == b"\0"

    def test_the_cap_of_osaka_does_not_bind_deposits(self) -> None:
        execution = opened(KARST)
        assert execution.execute(deposit(gas_limit=2**24 + 1)).receipt.succeeded
        with pytest.raises(TransactionRejected) as caught:
            execution.execute(transfer(0, gas_limit=2**24 + 1, max_fee_per_gas=2_000_000))
        assert caught.value.reason is Rejection.GAS_LIMIT

    @pytest.mark.parametrize("fork", [JOVIAN, KARST], ids=["jovian", "karst"])
    def test_the_limit_of_init_code_does_not_bind_deposits(self, fork: ChainConfig) -> None:
        # L1 bounds a deposit's size; EIP-3860 is a rule of signed transactions and of CREATE.
        execution = opened(fork)
        for size, gas in ((49_152, 512_520), (49_153, 512_530)):
            receipt = execution.execute(deposit(to=None, data=bytes(size), gas_limit=3_000_000)).receipt
            assert receipt.succeeded
            assert execution.results[-1].gas_used == gas
        with pytest.raises(TransactionRejected) as caught:
            creation = transfer(0, to=None, data=bytes(49_153), value=0, gas_limit=3_000_000)
            execution.execute(creation)
        assert caught.value.reason is Rejection.MALFORMED

    def test_a_deposit_is_bound_by_the_gas_of_the_block(self) -> None:
        with pytest.raises(TransactionRejected, match="transaction 30000001, block 30000000"):
            opened().execute(deposit(gas_limit=30_000_001))


class TestRejections:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"nonce": 1}, Rejection.NONCE_TOO_HIGH),
            ({"max_fee_per_gas": 1_000, "max_priority_fee_per_gas": 0}, Rejection.FEE_TOO_LOW),
            ({"max_fee_per_gas": 10**7, "max_priority_fee_per_gas": 10**8}, Rejection.MALFORMED),
            ({"value": 10**21}, Rejection.FUNDS),
            ({"gas_limit": 20_999}, Rejection.GAS_LIMIT),
            ({"gas_limit": 22_000, "data": b"\x01" * 100}, Rejection.GAS_LIMIT),
            ({"gas_limit": 30_000_001}, Rejection.BLOCK_GAS),
            ({"chain_id": 902}, Rejection.MALFORMED),
        ],
    )
    def test_reasons_leave_no_trace(self, changes: dict[str, Any], reason: Rejection) -> None:
        execution = opened()
        execution.execute(attributes_deposit())
        before = execution.seal()
        with pytest.raises(TransactionRejected) as caught:
            execution.execute(transfer(changes.pop("nonce", 0), **changes))
        assert caught.value.reason is reason
        execution.execute(deposit())
        again = opened()
        again.execute(attributes_deposit())
        assert again.seal().hash == before.hash
        again.execute(deposit())
        assert again.seal().hash == execution.seal().hash

    def test_nonce_too_low(self) -> None:
        execution = opened()
        execution.execute(transfer(0))
        with pytest.raises(TransactionRejected, match="next nonce 1, tx nonce 0"):
            execution.execute(transfer(0))

    def test_a_contract_may_not_sign_but_a_delegated_account_may(self) -> None:
        for code, accepted in ((b"\x00", False), (b"\xef\x01\x00" + REVERTER, True)):
            execution = opened(world=world_with({SENDER: (RICH, code)}))
            if accepted:
                assert execution.execute(transfer(0)).receipt.succeeded
            else:
                with pytest.raises(TransactionRejected) as caught:
                    execution.execute(transfer(0))
                assert caught.value.reason is Rejection.SENDER_NOT_EOA

    def test_blob_transactions_are_refused(self) -> None:
        tx = BlobTx(CHAIN_ID, 0, 0, 10**7, 50_000, RECIPIENT, 0, b"", (), 1, (b"\x01" * 32,), 0, 0, 0)
        envelope = TxEnvelope.decode(encode_transaction(sign_transaction(tx, SECRET)))
        with pytest.raises(TransactionRejected) as caught:
            opened().execute(envelope)
        assert caught.value.reason is Rejection.TYPE

    def test_set_code_transactions_come_with_isthmus(self) -> None:
        delegation = sign_authorization(CHAIN_ID, STORER, 0, b"\x21" * 32)
        tx = SetCodeTx(CHAIN_ID, 0, 0, 10**7, 200_000, RECIPIENT, 0, b"", (), (delegation,), 0, 0, 0)
        envelope = TxEnvelope.decode(encode_transaction(sign_transaction(tx, SECRET)))
        with pytest.raises(TransactionRejected) as caught:
            opened(HOLOCENE).execute(envelope)
        assert caught.value.reason is Rejection.TYPE
        execution = opened(ISTHMUS)
        assert execution.execute(envelope).receipt.succeeded

    def test_a_transaction_over_its_wall_budget_is_undone(self) -> None:
        execution = opened()
        execution.execute(attributes_deposit())
        endless = transfer(0, to=LOOPER, gas_limit=20_000_000, value=0)
        with pytest.raises(ExecutionTimeout):
            execution.execute(endless, deadline=Deadline(0.01))
        with pytest.raises(ExecutionTimeout):
            execution.execute(deposit(to=LOOPER, gas_limit=20_000_000, mint=5), deadline=Deadline(0.01))
        assert balance(execution, SENDER) == RICH
        assert balance(execution, b"\xdd" * 20) == 0
        assert execution.execute(transfer(0)).receipt.succeeded


class TestSealing:
    def transactions(self) -> list[TxEnvelope]:
        first = [attributes_deposit(), deposit(mint=5)]
        targets = [RECIPIENT, STORER, LOGGER, REVERTER, RECIPIENT, LOGGER]
        return first + [transfer(index, to=to, value=0) for index, to in enumerate(targets)]

    def test_ten_seals_end_where_one_does(self) -> None:
        once, often = opened(), opened()
        for envelope in self.transactions():
            once.execute(envelope)
            often.execute(envelope)
            often.seal()
        assert often.seal().hash == once.seal().hash
        assert often.seal() is often.seal()

    def test_every_seal_is_the_block_of_its_prefix(self) -> None:
        growing = opened()
        for count, envelope in enumerate(self.transactions(), 1):
            growing.execute(envelope)
            fresh = opened()
            for each in self.transactions()[:count]:
                fresh.execute(each)
            assert growing.seal().header == fresh.seal().header

    def test_roots_and_bloom_are_those_of_the_contents(self) -> None:
        execution = opened()
        for envelope in self.transactions():
            execution.execute(envelope)
        sealed = execution.seal()
        header = sealed.header
        assert header.transactions_root == ordered_root(sealed.block.transactions)
        assert header.receipts_root == ordered_root(map(encode_receipt, sealed.receipts))
        assert header.gas_used == sum(result.gas_used for result in sealed.results)
        assert header.state_root == sealed.world.root
        bloom = 0
        for receipt in sealed.receipts:
            bloom |= int.from_bytes(receipt.bloom, "big")
        assert header.logs_bloom == bloom.to_bytes(256, "big") != bytes(256)
        assert sealed.fee_parameters == FEES

    def test_the_diff_is_what_happened_since_the_seal_before(self) -> None:
        execution = opened()
        execution.execute(transfer(0, to=STORER, value=0))
        first = execution.seal()
        assert first.diff.storage[int.from_bytes(STORER, "big")] == {0: 1}
        execution.execute(transfer(1))
        second = execution.seal()
        assert int.from_bytes(STORER, "big") not in second.diff.storage
        assert first.world.apply(second.diff).root == second.world.root

    def test_an_empty_block_has_a_seal(self) -> None:
        sealed = opened().seal()
        assert sealed.header.transactions_root == sealed.header.receipts_root == EMPTY_TRIE_ROOT
        assert sealed.header.state_root == GROUND.root
        assert sealed.fee_parameters is None


class TestForkFields:
    def test_withdrawals_root(self) -> None:
        world = world_with({PASSER: (1, b"")}, {(PASSER, 3): 4})
        passer = int.from_bytes(PASSER, "big")
        for config in (CANYON, HOLOCENE):
            assert opened(config, world).seal().header.withdrawals_root == EMPTY_TRIE_ROOT
        assert opened(ISTHMUS, world).seal().header.withdrawals_root == world.storage_root(passer)
        assert opened(ISTHMUS).seal().header.withdrawals_root == EMPTY_TRIE_ROOT

    def test_blob_and_request_fields(self) -> None:
        header = opened(CANYON).seal().header
        assert header.blob_gas_used is header.excess_blob_gas is header.requests_hash is None
        header = opened(ECOTONE).seal().header
        assert (header.blob_gas_used, header.excess_blob_gas, header.requests_hash) == (0, 0, None)
        assert opened(ISTHMUS).seal().header.requests_hash is not None

    def test_the_da_footprint_is_the_blob_gas_from_jovian(self) -> None:
        for config, expected in ((ISTHMUS, 0), (JOVIAN, 2 * 100 * 400)):
            execution = opened(config)
            execution.execute(attributes_deposit())
            for index in range(2):
                assert execution.footprint_of(transfer(index)) == expected // 2
                execution.execute(transfer(index))
            assert execution.seal().header.blob_gas_used == expected == execution.da_footprint

    def test_the_scalar_comes_from_the_calldata_of_the_first_deposit(self) -> None:
        from flashctl.op.l1_attributes import l1_attributes_deposit

        for scalar, expected in ((0, 400), (7, 7)):
            execution = opened()
            stated = replace(L1_ATTRIBUTES, da_footprint_gas_scalar=scalar)
            execution.execute(envelope_of(l1_attributes_deposit(stated, OpFork.JOVIAN)))
            assert execution.footprint_of(transfer(0)) == 100 * expected

    def test_the_da_footprint_is_bounded_by_the_gas_limit(self) -> None:
        execution = opened(gas_limit=150_000)
        execution.execute(transfer(0, gas_limit=21_000))
        execution.execute(transfer(1, gas_limit=21_000))
        execution.execute(transfer(2, gas_limit=21_000))
        with pytest.raises(TransactionRejected, match="transaction 40000, block 30000") as caught:
            execution.execute(transfer(3, gas_limit=21_000))
        assert caught.value.reason is Rejection.DA_FOOTPRINT

    def test_extra_data_and_base_fee_follow_the_attributes_and_the_parent(self) -> None:
        execution = opened(min_base_fee=77, eip1559_params=bytes.fromhex("0000000a00000003"))
        assert execution.context.extra_data == bytes.fromhex("010000000a00000003000000000000004d")
        assert execution.context.base_fee == 1_000_000

    def test_the_create2_deployer_appears_in_the_first_block_of_canyon(self) -> None:
        assert keccak256(CREATE2_DEPLOYER_CODE).hex().startswith("b0550b5b431e30d3")
        first = opened(chain_at(OpFork.CANYON, activation=START + 2))
        assert first.state.code_of(CREATE2_DEPLOYER) == CREATE2_DEPLOYER_CODE
        assert first.seal().new_codes == {keccak256(CREATE2_DEPLOYER_CODE): CREATE2_DEPLOYER_CODE}
        assert opened(CANYON).state.code_of(CREATE2_DEPLOYER) == b""

    def test_system_calls_store_beacon_root_and_parent_hash(self) -> None:
        world = world_with(
            {
                BEACON_ROOTS.to_bytes(20, "big"): (0, BEACON_ROOTS_CODE),
                HISTORY_STORAGE.to_bytes(20, "big"): (0, HISTORY_CODE),
            }
        )
        execution = opened(ISTHMUS, world)
        slot = (START + 2) % 8191
        assert execution.state.storage(BEACON_ROOTS, slot) == START + 2
        assert execution.state.storage(BEACON_ROOTS, slot + 8191) == int.from_bytes(b"\x44" * 32, "big")
        parent_hash = int.from_bytes(execution.parent.hash, "big")
        assert execution.state.storage(HISTORY_STORAGE, execution.parent.number % 8191) == parent_hash
        assert execution.gas_used == 0
        assert opened(HOLOCENE, world).state.storage(HISTORY_STORAGE, 100) == 0

    def test_activation_blocks_since_jovian_hold_deposits_only(self) -> None:
        for fork in (OpFork.JOVIAN, OpFork.KARST):
            execution = opened(chain_at(fork, activation=START + 1))
            execution.execute(deposit())
            with pytest.raises(TransactionRejected) as caught:
                execution.execute(transfer(0))
            assert caught.value.reason is Rejection.ACTIVATION_BLOCK
        assert opened(chain_at(OpFork.ISTHMUS, activation=START + 1)).execute(transfer(0)).receipt.succeeded

    def test_bedrock_is_not_executed(self) -> None:
        with pytest.raises(UnsupportedFork, match="blocks of regolith are not executed"):
            opened(chain_at(OpFork.REGOLITH))
