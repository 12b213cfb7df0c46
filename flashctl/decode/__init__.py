"""`flashctl decode`: what a transaction, a flashblock, a block or a receipt says.

    documents    what a piece of input is, with its wrappers taken off
    reading      raw bytes to a typed transaction; tx_formats, tx_schema and spans for what a node refuses
    tx_report    one transaction as a report: JSON-RPC names, and what follows from the fields
    containers, objects, rlp_item    reports of everything else
    commitments, sequences, block_receipts, uncommitted    what --verify computes again, and what it cannot
    calls, abi, signatures, deposits, l1, gas    the parts of a report
    engine       lines to reports
    present, render, fields      reports to output
    chunks, columns              large batches: whole lines at a time, and columns without a report
    witness, execution           a block executed on the state that a witness holds
    inputs, parallel, run        files, processes, exit codes

The core (all but the last line) does no I/O. Imports are part of the design: one decode has 150 ms, so a
module that only some input needs is imported when that input comes, and the small records of a decode are
named tuples, whose classes are made in a fifth of the time of frozen dataclasses (0.3 against 1-2 ms each).
"""
