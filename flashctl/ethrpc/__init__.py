"""Answers in Ethereum's JSON-RPC shapes."""
