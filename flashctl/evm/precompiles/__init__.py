"""Precompiled contracts: every one of them real, none imported before it is called.

    contract.py   what a precompile is, its errors, input limits
    tables.py     which contracts a fork of Ethereum has, each table derived from its predecessor
    the others    the contracts by subject

The OP Stack's own additions and limits are in `op.rules`.
"""

from flashctl.evm.precompiles.contract import Precompile, PrecompileError, PrecompileUnavailable

__all__ = ["Precompile", "PrecompileError", "PrecompileUnavailable"]
