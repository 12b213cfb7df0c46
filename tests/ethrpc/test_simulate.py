"""eth_simulateV1 of our node on an OP chain: what the recorded exchanges of Ethereum do not show."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.devnet_chain import GWEI, address, build, encode_call, sign
from support.examples import examples
from support.node_lab import ETHER, PROBE, PROBE_AT, TOKEN, TOKEN_AT, Node, start
from support.rpc_lab import running

from flashctl.eth.blocks import EMPTY_TRIE_ROOT
from flashctl.eth.hexdata import parse_hex, parse_quantity, quantity, to_hex
from flashctl.ethrpc.call_runner import CallLimits
from flashctl.op.fees import BASE_FEE_VAULT, L1_FEE_VAULT, OPERATOR_FEE_VAULT, SEQUENCER_FEE_VAULT
from flashctl.op.forks import OpFork
from flashctl.op.system_calls import BEACON_ROOTS

ALICE, BOB, STRANGER = to_hex(address(0)), to_hex(address(1)), "0x" + "5a" * 20
VIEWER = "0x" + "b0" * 20
BALANCE_OF_WORD = "0x5f35315f5260205ff3"
"""CALLDATALOAD(0); BALANCE; return it"""
SPIN = "0x5b5f56"
REVERTS_WITH_ETHER = "0x5f5f5f5f600173" + "5a" * 20 + "5af1505f5ffd"
"""Sends one wei to STRANGER, then reverts."""


def word(value: int) -> str:
    return to_hex(value.to_bytes(32, "big"))


def hex_address(value: int) -> str:
    return to_hex(value.to_bytes(20, "big"))


async def simulate(node: Node, *blocks: dict[str, Any], at: str = "latest", **options: Any) -> list[Any]:
    shown: list[Any] = await node.rpc("eth_simulateV1", {"blockStateCalls": list(blocks), **options}, at)
    return shown


async def refusal(node: Node, *blocks: dict[str, Any], **options: Any) -> tuple[int, str]:
    error = await node.rpc.error("eth_simulateV1", {"blockStateCalls": list(blocks), **options}, "latest")
    return error.code, error.message


def balances(*of: int) -> dict[str, Any]:
    """A block that returns balances."""
    return {
        "stateOverrides": {VIEWER: {"code": BALANCE_OF_WORD}},
        "calls": [{"to": VIEWER, "input": word(one)} for one in of],
    }


def returned(block: dict[str, Any]) -> list[int]:
    return [int(call["returnData"], 16) for call in block["calls"]]


def test_a_simulated_block_does_what_the_real_one_does() -> None:
    async def body() -> None:
        node = start()
        transfer = encode_call(TOKEN, "transfer(address,uint256)", address(5), 7)
        increment = encode_call(PROBE, "increment()")
        nonces = {
            n: parse_quantity(await node.rpc("eth_getTransactionCount", to_hex(address(n)))) for n in (0, 1)
        }
        signed = [
            sign(0, nonces[0], to=PROBE_AT, data=increment),
            sign(1, nonces[1], to=TOKEN_AT, data=transfer),
            sign(0, nonces[0] + 1, to=address(7), value=ETHER, gas=21_000),
            sign(0, nonces[0] + 2, to=PROBE_AT, data=encode_call(PROBE, "refuse(uint256)", 7)),
            sign(0, nonces[0] + 3, data=PROBE.creation_code, gas=3_000_000),
        ]
        real = build(node.chain, signed)
        header = real.header
        calls = [
            {
                "from": to_hex(envelope.sender), "to": None if tx.to is None else to_hex(tx.to),
                "gas": quantity(tx.gas_limit), "value": quantity(tx.value), "input": to_hex(tx.data),
                "maxFeePerGas": quantity(100 * GWEI), "maxPriorityFeePerGas": quantity(GWEI),
            }
            for envelope in real.envelopes[1:]
            for tx in [envelope.tx]
        ]  # fmt: skip
        overrides = {
            "feeRecipient": to_hex(header.fee_recipient),
            "prevRandao": to_hex(header.prev_randao),
            "beaconRoot": to_hex(header.parent_beacon_block_root or b""),
            "time": quantity(header.timestamp),
        }
        (block,) = await simulate(node, {"blockOverrides": overrides, "calls": calls}, validation=True)
        assert block["number"] == quantity(header.number) and block["parentHash"] == to_hex(
            header.parent_hash
        )
        assert block["timestamp"] == quantity(header.timestamp)
        assert block["baseFeePerGas"] == quantity(header.base_fee_per_gas or 0)
        assert block["extraData"] == to_hex(header.extra_data) and block["mixHash"] == overrides["prevRandao"]
        assert block["logsBloom"] == to_hex(header.logs_bloom)
        footprint, scalar = parse_quantity(block["blobGasUsed"]), 400
        assert footprint >= 100 * scalar * len(calls) and footprint % scalar == 0
        for call, result in zip(block["calls"], real.results[1:], strict=True):
            assert call["gasUsed"] == quantity(result.gas_used)
            assert call["status"] == quantity(int(result.receipt.succeeded))
            assert [log["data"] for log in call["logs"]] == [to_hex(log.data) for log in result.receipt.logs]
            assert [log["address"] for log in call["logs"]] == [
                to_hex(log.address) for log in result.receipt.logs
            ]
        assert [call["status"] for call in block["calls"]] == ["0x1", "0x1", "0x1", "0x0", "0x1"]
        assert block["calls"][3]["error"]["code"] == 3

    running(body)


def test_fees_go_where_the_op_stack_sends_them_and_none_for_l1() -> None:
    async def body() -> None:
        node = start()
        vaults = (BASE_FEE_VAULT, SEQUENCER_FEE_VAULT, L1_FEE_VAULT, OPERATOR_FEE_VAULT)
        payment = {"from": ALICE, "to": STRANGER, "maxFeePerGas": hex(50), "maxPriorityFeePerGas": hex(3)}
        overrides = {"baseFeePerGas": hex(40), "feeRecipient": hex_address(SEQUENCER_FEE_VAULT)}
        before, paid, after = await simulate(
            node, balances(*vaults), {"blockOverrides": overrides, "calls": [payment]}, balances(*vaults)
        )
        assert paid["calls"][0]["gasUsed"] == hex(21_000)
        gained = [late - early for early, late in zip(returned(before), returned(after), strict=True)]
        assert gained == [21_000 * 40, 21_000 * 3, 0, 0]

    running(body)


def test_blocks_follow_one_another_and_leave_no_trace() -> None:
    async def body() -> None:
        node = start()
        count = {"to": to_hex(PROBE_AT), "input": to_hex(encode_call(PROBE, "count()"))}
        increment = {
            "from": ALICE,
            "to": to_hex(PROBE_AT),
            "input": to_hex(encode_call(PROBE, "increment()")),
        }
        request = (
            {"calls": [increment, count]},
            {"blockOverrides": {"number": "0x7"}},
            {"calls": [increment, increment, count]},
        )
        blocks = await simulate(node, *request)
        assert [block["number"] for block in blocks] == ["0x4", "0x5", "0x6", "0x7", "0x8"]
        assert blocks[0]["parentHash"] == to_hex(node.chain.head.hash)
        assert all(late["parentHash"] == early["hash"] for early, late in pairwise(blocks))
        start_at = node.chain.head.timestamp
        assert [parse_quantity(block["timestamp"]) - start_at for block in blocks] == [12, 24, 36, 48, 60]
        first, last = (
            int(blocks[0]["calls"][1]["returnData"], 16),
            int(blocks[4]["calls"][2]["returnData"], 16),
        )
        assert last == first + 2
        assert await simulate(node, *request) == blocks
        assert await node.rpc("eth_blockNumber") == "0x3"

    running(body)


def test_upon_the_block_being_built() -> None:
    async def body() -> None:
        node = start()
        nonce = parse_quantity(await node.rpc("eth_getTransactionCount", ALICE))
        node.pending = build(node.chain, [sign(0, nonce, to=parse_hex(STRANGER), value=5, gas=21_000)])
        for tag, number, balance in (("latest", "0x4", 0), ("pending", "0x5", 5)):
            (block,) = await simulate(node, balances(int(STRANGER, 16)), at=tag)
            assert (block["number"], returned(block)) == (number, [balance])
        assert block["parentHash"] == to_hex(node.pending.header.hash)

    running(body)


def test_into_the_next_fork() -> None:
    """The parameters of the base fee take another form; it can be computed on both sides all the same."""

    async def body() -> None:
        node = start(grown=False, latest_fork=OpFork.GRANITE)
        later = node.chain.head.timestamp + 100
        schedule = (*node.chain.config.schedule, (OpFork.JOVIAN, later))
        node.chain.config = replace(node.chain.config, schedule=schedule)  # type: ignore[misc]
        before, first, second = await simulate(
            node, {}, {"blockOverrides": {"time": quantity(later)}}, {}, validation=True
        )
        assert before["extraData"] == "0x" and before["withdrawalsRoot"] == to_hex(EMPTY_TRIE_ROOT)
        assert first["extraData"] == second["extraData"] and len(parse_hex(first["extraData"])) == 17
        assert "requestsHash" in first and "requestsHash" not in before
        fees = [parse_quantity(block["baseFeePerGas"]) for block in (before, first, second)]
        assert fees == sorted(fees, reverse=True) and fees[0] > fees[2]

    running(body)


def test_the_beacon_root_of_a_block_is_what_its_contract_says() -> None:
    async def body() -> None:
        node = start()
        later = node.chain.head.timestamp + 10
        ask = {"to": hex_address(BEACON_ROOTS), "input": word(later)}
        overrides = {"time": quantity(later), "beaconRoot": word(77)}
        (block,) = await simulate(node, {"blockOverrides": overrides, "calls": [ask]})
        assert returned(block) == [77] and block["parentBeaconBlockRoot"] == word(77)

    running(body)


def test_the_gas_of_all_calls_together_is_capped() -> None:
    async def body() -> None:
        node = start(CallLimits(gas=100_000))
        spin = {"stateOverrides": {VIEWER: {"code": SPIN}}, "calls": [{"to": VIEWER}]}
        pay = {"from": ALICE, "to": STRANGER}
        # Not through the schema, which wants another message of a halted call than any client gives.
        handler = node.methods.find("eth_simulateV1")
        assert handler is not None
        _, second = await handler([{"blockStateCalls": [{"calls": [pay, pay]}, spin]}])
        assert second["calls"][0]["gasUsed"] == hex(100_000 - 42_000)
        error = second["calls"][0]["error"]
        assert error["code"] == -32015
        assert error["message"].startswith("out of gas") and "global gas cap" in error["message"]
        assert (await refusal(node, {"calls": [pay] * 5}))[0] == -38013

    running(body)


def test_what_calls_return_is_bounded() -> None:
    """100 KB for 50,000 gas each: a thousand of them would be an answer of 200 MB."""

    async def body() -> None:
        node = start()
        echo = {VIEWER: {"code": "0x620186a05ff3"}}  # RETURN(0, 100_000)
        calls = [{"to": VIEWER, "gas": hex(60_000)}] * 400
        found = await refusal(node, {"stateOverrides": echo, "calls": calls})
        assert found[0] == -38026 and "results too large" in found[1], found
        (block,) = await simulate(node, {"stateOverrides": echo, "calls": calls[:3]})
        assert [len(call["returnData"]) for call in block["calls"]] == [200_002] * 3

    running(body)


def test_logs_without_data_are_bounded_too() -> None:
    """LOG0 costs 375 gas and is 500 bytes of JSON, most of them names."""

    async def body() -> None:
        node = start()
        speaks = {VIEWER: {"code": "0x5b5f5fa0620100005a115f57"}}  # while gas is left, then STOP
        call = {"to": VIEWER, "gas": hex(49_000_000)}
        found = await refusal(node, {"stateOverrides": speaks, "calls": [call]})
        assert found[0] == -38026 and "results too large" in found[1], found

    running(body)


def test_the_wall_budget_is_that_of_the_whole_request() -> None:
    async def body() -> None:
        node = start(CallLimits(gas=10**12, seconds=0.3))
        spin = {
            "blockOverrides": {"gasLimit": hex(10**12)},
            "stateOverrides": {VIEWER: {"code": SPIN}},
            "calls": [{"to": VIEWER}],
        }
        assert await refusal(node, spin) == (-32000, "execution aborted (timeout = 0.3s)")

    running(body)


def test_ether_that_a_revert_gave_back_leaves_no_log() -> None:
    async def body() -> None:
        node = start()
        hop = "0x5f5f5f5f600273" + VIEWER[2:] + "5af15f5f5f5f600373" + STRANGER[2:] + "5af100"
        hopper = "0x" + "a0" * 20
        (block,) = await simulate(
            node,
            {
                "stateOverrides": {
                    VIEWER: {"code": REVERTS_WITH_ETHER, "balance": "0x9"},
                    hopper: {"code": hop, "balance": "0x9"},
                },
                "calls": [{"from": ALICE, "to": hopper, "value": "0x1"}],
            },
            traceTransfers=True,
        )
        logs = block["calls"][0]["logs"]
        assert [int(log["data"], 16) for log in logs] == [1, 3]
        assert [log["logIndex"] for log in logs] == ["0x0", "0x1"]
        assert block["logsBloom"] == "0x" + "00" * 256, "transfers are in no receipt"

    running(body)


PARTIES = [ALICE, BOB, STRANGER, to_hex(address(2))]


@settings(max_examples=examples(25))
@given(
    st.lists(
        st.tuples(st.sampled_from(PARTIES), st.sampled_from(PARTIES), st.integers(0, 5)),
        min_size=1,
        max_size=8,
    )
)
def test_logged_transfers_account_for_every_balance(moves: list[tuple[str, str, int]]) -> None:
    async def body() -> None:
        node = start(grown=False)
        everybody = [int(party, 16) for party in PARTIES]
        gift = {"from": ALICE, "to": STRANGER, "value": hex(100)}
        calls = [{"from": sender, "to": to, "value": hex(value)} for sender, to, value in moves]
        before, moved, after = await simulate(
            node, balances(*everybody), {"calls": [gift, *calls]}, balances(*everybody), traceTransfers=True
        )
        held = dict(zip(PARTIES, returned(before), strict=True))
        for call in moved["calls"]:
            for log in call["logs"]:
                assert log["address"] == "0x" + "ee" * 20
                held["0x" + log["topics"][1][26:]] -= int(log["data"], 16)
                held["0x" + log["topics"][2][26:]] += int(log["data"], 16)
        assert list(held.values()) == returned(after)

    running(body)


PAY = {"from": ALICE, "to": STRANGER}
PRICED = {**PAY, "maxFeePerGas": hex(100 * GWEI)}


def calling(*calls: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"calls": list(calls)}]


def overriding(**accounts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"stateOverrides": accounts}]


def in_block(**fields: Any) -> list[dict[str, Any]]:
    return [{"blockOverrides": fields}]


TO_STRANGER = {"movePrecompileToAddress": STRANGER}
ONE, TWO = hex_address(1), hex_address(2)


@pytest.mark.parametrize(
    ("blocks", "code", "text"),
    [
        ([], -32602, "empty input"),
        (in_block(time="0x1"), -38021, "block timestamps must be in order: 1 <="),
        (in_block(number="0x3"), -38020, "block numbers must be in order: 3 <= 3"),
        (in_block(number=hex(2**64)), -38026, "too many blocks"),
        (calling(*[PAY] * 5_001), -38026, "too many calls in block: 5001 > 5000"),
        (calling(*[PAY] * 4_000) * 3, -38026, "too many calls: 12000 > 10000"),
        (calling({**PAY, "maxPriorityFeePerGas": "0x1"}), -32602, "max priority fee per gas higher"),
        (calling({**PAY, "gas": hex(10**9)}), -38015, "block gas limit reached: remaining: "),
        (calling({"from": STRANGER, "to": ALICE, "value": "0x1"}), -38014, "have 0 want 1 (supplied gas"),
        (calling({"from": ALICE, "input": "0x" + "00" * 49_153}), -38025, "max initcode size exceeded"),
        (
            calling({**PAY, "gas": hex(40_000), "input": "0x" + "11" * 1_000}),
            -38013,
            "have 40000, want 61000",
        ),
        (overriding(**{TWO: {"movePrecompileToAddress": TWO}}), -38022, "moved to itself"),
        (overriding(**{ONE: TO_STRANGER, TWO: TO_STRANGER}), -38023, "several precompiles are moved"),
        (overriding(**{ALICE: {"state": {}, "stateDiff": {}}}), -32000, "has both 'state' and 'stateDiff'"),
        (in_block(withdrawals=[{}]), -32602, "blocks of the OP Stack have none"),
        ([7], -32602, "is an object"),
        ([{"calls": {}}], -32602, "calls is not a list"),
        (calling({"to": STRANGER, "gasPrice": "0x1", "maxFeePerGas": "0x1"}), -32602, "both gasPrice and"),
        (calling({"to": STRANGER, "blobVersionedHashes": []}), -32602, "at least one blob"),
        (calling({"to": STRANGER, "chainId": "0x1"}), -32602, "chainId does not match"),
    ],
)
def test_refusals(blocks: list[Any], code: int, text: str) -> None:
    async def body() -> None:
        found, message = await refusal(start(), *blocks)
        assert found == code and text in message, (found, message)

    running(body)


@pytest.mark.parametrize(
    ("nonce", "code", "text"),
    [("0x0", -38010, "nonce too low: address 0xf39F"), ("0x99", -38011, "nonce too high: address 0xf39F")],
)
def test_nonces_count_only_with_validation(nonce: str, code: int, text: str) -> None:
    async def body() -> None:
        node, blocks = start(), calling({**PRICED, "nonce": nonce})
        found, message = await refusal(node, *blocks, validation=True)
        assert found == code and text in message, (found, message)
        ((block,),) = [await simulate(node, *blocks)]
        assert block["calls"][0]["status"] == "0x1"

    running(body)


def test_no_list_of_blocks_is_no_simulation() -> None:
    async def body() -> None:
        node = start(grown=False)
        unclear = {"blockStateCalls": [{}], "validation": 1}
        for params in ([{}], ["latest"], [{"blockStateCalls": {}}], [unclear]):
            assert (await node.rpc.error("eth_simulateV1", *params)).code == -32602
        assert (await node.rpc.error("eth_simulateV1", {"blockStateCalls": [{}]}, "0x99")).code == -32000

    running(body)


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({}, "0x2"),
        ({"gasPrice": hex(60 * GWEI)}, "0x0"),
        ({"gasPrice": hex(60 * GWEI), "accessList": [{"address": STRANGER, "storageKeys": []}]}, "0x1"),
        ({"maxFeePerGas": hex(60 * GWEI), "accessList": []}, "0x2"),
        (
            {"authorizationList": [{"chainId": "0x385", "address": STRANGER, "nonce": "0x0",
                                    "yParity": "0x0", "r": "0x1", "s": "0x1"}]},
            "0x4",
        ),
    ],
)  # fmt: skip
def test_the_type_of_a_call_follows_from_its_fields(more: dict[str, Any], kind: str) -> None:
    async def body() -> None:
        node = start()
        (block,) = await simulate(node, {"calls": [{**PAY, **more}]}, returnFullTransactions=True)
        (transaction,) = block["transactions"]
        assert transaction["type"] == kind and transaction["from"] == ALICE
        assert transaction["gasPrice"] == more.get("gasPrice", transaction["gasPrice"])
        assert block["calls"][0]["status"] == "0x1"

    running(body)
