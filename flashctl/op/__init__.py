"""The OP Stack's rules on top of the EVM: forks, fees, deposits, block execution."""
