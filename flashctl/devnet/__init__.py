"""The whole pipeline in one command, with a sequencer driver in place of the consensus client."""
