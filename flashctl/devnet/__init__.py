"""The whole pipeline in one command, and the sequencer driver in the consensus client's part."""
