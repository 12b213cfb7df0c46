"""The Ethereum chain that execution-apis' exchanges were recorded on, as far as an OP node can stand on it.

Its blocks are not executed here: its head block with the whole state after it stands as a genesis.
"""

from __future__ import annotations

import json
from functools import cache

from support.reference import reference_path

from flashctl.chain.genesis import Genesis, build_genesis, devnet_genesis
from flashctl.eth.blocks import Block, Header, decode_header
from flashctl.eth.rlp import decode_prefix, encode
from flashctl.op.config import ChainConfig, parse_schedule
from flashctl.op.forks import OpFork


@cache
def recorded_headers() -> dict[int, Header]:
    """Headers of blocks 1 to 54 by number. (Whole blocks do not decode: the first have ommers.)"""
    data = (reference_path("execution-apis") / "chain" / "chain.rlp").read_bytes()
    headers, offset = {}, 0
    while offset < len(data):
        block, offset = decode_prefix(data, offset)
        header = decode_header(encode(block[0]))
        headers[header.number] = header
    return headers


@cache
def recorded_head() -> Genesis:
    """The head and the state after it."""
    folder = reference_path("execution-apis") / "chain"
    accounts = json.loads((folder / "head_alloc.json").read_text())
    alloc = accounts.get("alloc", accounts)
    header = recorded_headers()[54]
    chain_id = json.loads((folder / "genesis.json").read_text())["config"]["chainId"]
    schedule = parse_schedule({fork: 0 for fork in OpFork if fork > OpFork.BEDROCK})
    state = build_genesis(devnet_genesis() | {"alloc": alloc})
    assert state.world.root == header.state_root
    return Genesis(ChainConfig(chain_id, schedule), Block(header, ()), state.world)
