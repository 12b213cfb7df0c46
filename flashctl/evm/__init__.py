"""The EVM: fork tables, journalled state, interpreter and compiler tiers, precompiles."""
