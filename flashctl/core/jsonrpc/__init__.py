"""JSON-RPC 2.0 as the Ethereum world speaks it: errors, the method table, server and client.

    errors.py     codes, `RpcError`, and what any other exception becomes on the wire
    methods.py    `Methods`: names to async functions, plus subscriptions
    namespaces.py which of them a port answers
    caller.py     the client of the request under way, for fair queueing
    fair_queue.py a queue for every caller, served in turn
    address_quota.py how much may wait, of all callers and of one address
    slices.py     how long requests and batches may hold the loop
    dispatch.py   bytes of a request in, bytes of the answer out; batches and their limits; no sockets
    session.py    one WebSocket connection: its queue, its subscriptions
    server.py     `serve`: HTTP and WebSocket on one port
    app.py        authorization, bounds on bodies, how answers are written
    listener.py   uvicorn as a guest
    protocols.py  limits that uvicorn lacks: size and time of heads, connections, slow readers
    outbound.py   how much may wait for clients that read slowly
    client.py     `JsonRpcClient`
    gathered_calls.py  calls of one method that leave as batches, each client's by itself
    exact.py      numbers that keep their text
    repeatable.py which methods may be sent again

Import from the modules: this package stays empty so that a role pays for what it uses.
"""
