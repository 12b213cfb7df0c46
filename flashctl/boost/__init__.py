"""The Engine API multiplexer between consensus client, builder and fallback."""
