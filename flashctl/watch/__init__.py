"""Tail, check, record and replay a Flashblocks stream."""
