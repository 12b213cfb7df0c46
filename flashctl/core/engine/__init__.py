"""The Engine API: its objects, a client, its tokens."""
