"""What is made of a traced execution; each a state machine of its own.

    tracer       what all of them are told
    struct_log   every instruction with gas, stack, memory and storage: go-ethereum's default
    calls        the tree of calls: callTracer
    prestate     what was touched, before and after: prestateTracer

None of them knows JSON: `chain.trace_json` writes it.
"""
