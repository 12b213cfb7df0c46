"""The Flashblocks stack of the OP Stack as one command-line toolkit."""

__version__ = "0.1.0"
