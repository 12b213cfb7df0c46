"""The state of a remote chain: read on demand from a node, pinned to a block hash.

state            the known part of the state after a block, and states with changes on top
upstream_client  the node: its head, its blocks, batched reads
state_fetcher    fetches missing state in the background, with retries
look_up          a look-up that fetches its missing state
transactions     executes transactions on such a state: run, collect missing state, fetch, resume
"""
