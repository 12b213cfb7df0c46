"""The EVM: exact, without recursion, in two tiers that give the same results.

    transaction    a transaction without its fees
    machine        messages, and the loop over frames
    state, world   accounts, storage and logs behind one undo log; immutable snapshots as tries
    forks          what each fork changes; opcodes and precompiles hold the instructions and contracts
    message        what surrounds an execution; frame: one running contract; halts: how it ends early
    calls          how frames begin and end
    instructions   memory, storage and accounts, for both tiers
    interpreter    the plain tier, with handlers
    jit            the compiling tier: builder, emitters, arithmetic, symbols, memory
    tracing        one instruction at a time, for tracers; tracers: what they record;
                   geth_error_text: errors
    code           contract code, when it is compiled, how much of it is kept

Addresses and words are ints everywhere in here. Nothing imports asyncio or does I/O; what a state lacks, its
reader fetches.
"""
