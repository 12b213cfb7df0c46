"""The state of a chain that is somewhere else: read piece by piece from a node, pinned to a block.

state            what is known of the state after one block, and states with changes upon it
upstream_client  the node: its head, its blocks, batched reads
state_fetcher    fetches in the background what executions lack, again and again if need be
look_up          look something up, with whatever that lacks fetched
transactions     execute transactions upon such a state: run, collect what is missing, fetch, resume
"""
