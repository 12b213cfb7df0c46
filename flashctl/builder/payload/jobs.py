"""The payload jobs of a builder: start one, keep the last few, return their blocks.

One job builds at a time. Requesting another payload ends the previous job, whose payload can still be
fetched: a consensus client may have requested both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, TypeVarTuple

from flashctl.builder.backend import ExecutionBackend
from flashctl.builder.mempool.admission import Mempool
from flashctl.builder.payload.block_work import JobRequest, JobRuntime, JobTerms
from flashctl.builder.payload.job import JobObserver, PayloadJob
from flashctl.errors import FlashctlError
from flashctl.eth.blocks import Header
from flashctl.lru import Lru
from flashctl.op.attributes import PayloadAttributes, payload_id
from flashctl.op.execution import SealedBlock

__all__ = ["KEPT_PAYLOADS", "PayloadJobs"]

KEPT_PAYLOADS: Final = 10
"""Payloads kept for getPayload; op-geth's figure."""

THREADS: Final = 3
"""One for the building job, one for a replaced job that still executes its forced transactions, one for
returned payloads."""

Given = TypeVarTuple("Given")
Result = TypeVar("Result")


class PayloadJobs:
    """Payload ids to jobs. Lives on the event loop."""

    def __init__(
        self,
        backend: ExecutionBackend,
        queue: Mempool,
        terms: Callable[[], JobTerms],
        observer: JobObserver,
        spawn: Callable[[PayloadJob], asyncio.Task[None]],
        *,
        id_version: int = 3,
    ) -> None:
        """Nothing is built yet.

        Args:
            terms: Asked at the start of every job; operators change the limits at run time.
            spawn: Runs a job beside the service.
            id_version: First byte of payload ids.
        """
        self._backend = backend
        self._queue = queue
        self._terms = terms
        self._observer = observer
        self._spawn = spawn
        self._id_version = id_version
        self._jobs = Lru[bytes, PayloadJob](KEPT_PAYLOADS)
        self._current: PayloadJob | None = None
        self._threads: Final = ThreadPoolExecutor(THREADS, "building")
        self._runtime: Final = JobRuntime(executor=self._threads)

    @property
    def current(self) -> PayloadJob | None:
        """The job started last, building or not."""
        return self._current

    async def start(self, parent: Header, attributes: PayloadAttributes) -> bytes:
        """Build on `parent`; returns the payload id once index 0 can be fetched.

        A repeated request returns the same payload, unchanged; while it is being opened, both callers wait.

        Raises:
            InvalidAttributes, InvalidFeeParameters: The attributes do not fit the fork of the block.
            ForcedTransactionFailed: A forced transaction cannot be executed.
            JobFailed: A defect.
        """
        identity = payload_id(parent.hash, attributes, self._id_version)
        job = self._jobs.peek(identity) or self._begin(identity, parent, attributes)
        try:
            await job.opened()
        except FlashctlError:
            if self._jobs.peek(identity) is job:
                self._jobs.pop(identity)
            raise
        return identity

    def _begin(self, identity: bytes, parent: Header, attributes: PayloadAttributes) -> PayloadJob:
        """Make a new job the current one. Awaits nothing, so that two jobs are never current at once."""
        build = self._backend.build(parent, attributes)
        if self._current is not None:
            self._current.replace()
        job = PayloadJob(
            JobRequest(identity, build, attributes),
            self._terms(),
            self._queue,
            self._observer,
            self._runtime,
        )
        self._current = job
        self._jobs.put(identity, job)
        self._spawn(job)
        return job

    async def in_thread(self, work: Callable[[*Given], Result], *args: *Given) -> Result:
        """Run work for a payload in one of the payload threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def close(self) -> None:
        """Release the threads without waiting for their work."""
        for job in self._jobs.values():
            job.abandon()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def head_moved(self, head: Header) -> None:
        """End a job whose block number the chain has reached.

        Its further flashblocks would belong to no branch. Its payload stays, for a getPayload under way.
        """
        job = self._current
        if job is not None and job.number <= head.number:
            job.replace()

    def job(self, identity: bytes) -> PayloadJob | None:
        """The job of a payload id, once index 0 can be fetched."""
        job = self._jobs.peek(identity)
        return job if job is not None and job.sealed is not None else None

    def sealed(self, block_hash: bytes) -> SealedBlock | None:
        """A block sealed by a kept job, by its hash: it need not be executed again."""
        for job in reversed(self._jobs.values()):
            sealed = job.sealed
            if sealed is not None and sealed.hash == block_hash:
                return sealed
        return None
