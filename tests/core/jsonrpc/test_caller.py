"""A handler can learn which connection it answers, over HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
from websockets.asyncio.client import connect

from flashctl.core.jsonrpc.caller import LOCAL, caller
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.server import serve


async def whoami(params: list[Any]) -> Any:
    await asyncio.sleep(0)
    return list(caller.get())


def test_the_caller_is_the_connection() -> None:
    async def body() -> None:
        methods = Methods()
        methods.register("whoami", whoami)
        server = await serve(methods, "127.0.0.1", 0)
        request = {"jsonrpc": "2.0", "id": 1, "method": "whoami", "params": []}
        async with httpx.AsyncClient() as one, httpx.AsyncClient() as other:

            async def ask(client: httpx.AsyncClient, body: Any) -> Any:
                return (await client.post(server.url, json=body)).json()

            first = (await ask(one, request))["result"]
            second = (await ask(other, request))["result"]
            assert first[0] == second[0] == "127.0.0.1"
            assert first[1] != second[1]
            batch = await ask(one, [request] * 3)
            assert [reply["result"] for reply in batch] == [first] * 3
        async with connect(server.websocket_url) as socket:
            await socket.send(json.dumps(request))
            named = json.loads(await socket.recv())["result"]
            assert named == ["127.0.0.1", socket.local_address[1]]
        assert caller.get() == LOCAL
        await server.close()

    asyncio.run(body())
