"""The embedded chain: genesis, storage, canonical head, and its JSON-RPC views."""
