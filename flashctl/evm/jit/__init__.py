"""The compiling tier: hot stretches of bytecode become Python functions."""
