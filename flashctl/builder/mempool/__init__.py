"""The mempool: admission, pending transactions per sender, the order in which they are tried."""
