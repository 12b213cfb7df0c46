"""`flashctl watch`: tail, record, replay and measure a flashblocks stream.

    sources              where messages come from: a stream, a node's subscription (pending_updates),
                         a recording (recording, blocking_input)
    tracker              what they mean: the rules of core.flashblocks.sequence with figures (events)
    session              one run: statistics, recorder, filters, output, stop conditions, in this order
    line_output          lines for people and programs on stdout; messages for stderr
    live_view            the table on a terminal: live_rows, view_filter, and terminal for keys and sizes
    stop_conditions, filters, stream_stats, endpoint_comparison    pure parts of a session
    sealed_check, transaction_follower, event_hooks, republish, plot    work beside the stream
    endpoint_check       `--check`
    stream_target        from URL or profile to the endpoint
    run                  connects a session to its source, the terminal and its helpers

Everything up to `session` is without I/O or waits for nothing; a test feeds it what a socket would.
"""
