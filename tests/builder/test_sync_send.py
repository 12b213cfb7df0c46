"""eth_sendRawTransactionSync on a builder: a gap is told at once, with the code of EIP-7966."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.builders import builder_config, rpc_client, running, scenario
from support.chains import transfer

from flashctl.core.jsonrpc.errors import RpcError
from flashctl.eth.hexdata import to_hex
from flashctl.ethrpc.send_api import NOT_READY


def test_what_waits_behind_a_gap_is_kept_and_not_waited_for(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(builder_config(tmp_path)) as builder:
            client, ahead = rpc_client(builder), transfer(nonce=3)
            for _ in range(2):  # the second time it is known already
                with pytest.raises(RpcError) as caught:
                    await client.call("eth_sendRawTransactionSync", [to_hex(ahead.raw)])
                assert (caught.value.code, caught.value.data) == (NOT_READY, to_hex(ahead.hash))
            assert ahead.hash in builder.queue
            await client.close()

    scenario(body)
