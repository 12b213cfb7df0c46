"""Ethereum's data, as pure functions: hashes, RLP, transactions, receipts, blocks, tries."""
