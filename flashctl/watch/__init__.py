"""`flashctl watch`: tail, record, replay and measure a flashblocks stream.

    sources      where messages come from: a stream, a node's subscription (updates), a recording
    tracker      what they mean: the rules of core.sequence with the figures that people look at (events)
    session      who is told, in which order: statistics, recorder, filters, renderer, stop rule
    lines, live  what is printed; terminal for keys and sizes
    conditions, filters, stats, compare    pure parts of a session
    confirm, follow, hooks, republish, plot    helpers beside the stream
    doctor       `--check`
    run          puts a session, its source and the terminal together

Everything up to `session` is without I/O or waits for nothing; a test feeds it what a socket would.
"""
