"""JSON-RPC 2.0: errors, the method table, server and client."""
