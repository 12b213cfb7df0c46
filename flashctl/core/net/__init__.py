"""Sockets below HTTP, JSON-RPC and WebSocket: the HTTP/1.1 client, listening, addresses, keep-alive."""
