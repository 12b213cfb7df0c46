"""What is recorded of a traced execution; each a state machine of its own.

    tracer       the events and the interface of all of them
    struct_log   every instruction with gas, stack, memory and storage: go-ethereum's default
    calls        the tree of calls: callTracer
    prestate     what was touched, before and after: prestateTracer

`ethrpc.trace_json` renders their results as JSON.
"""
