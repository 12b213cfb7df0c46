"""Worker processes: what public callers request runs outside the process that has deadlines.

    schedule.py   which job runs next on which worker, and which has waited too long; a clock is passed in
    pool.py       `WorkerPool`: processes, started when needed, replaced when they die
    process.py    the parent's end of one process
    frames.py     messages between the two
    run.py        what a job finds in the worker: questions to the parent, its time
    child.py      the worker process (`python -m flashctl.core.service.workers`)
    priority.py   its place behind the services in line for a processor
    figures.py    metrics

The parent decides what a job sees (an immutable view) when it is submitted, and answers the worker's
questions about it; so a job's view includes everything that its client was answered before, on whichever
worker it runs. Import from the modules: this package stays empty so that a worker loads no event loop.
"""
