"""The flashblock being executed, from the first try to the one that lacks nothing, and what waits behind it.

Execution goes in rounds: a try finds what it lacks, that is fetched, and the next try goes further. What
waits behind is looked at in the same rounds, on a guess of the state after the one before it, so that a
fetch is for all of them: at 200 ms for a round trip and a flashblock every 200 ms, one after the other would
fall further behind with each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from flashctl.core.service import defects
from flashctl.errors import DataError, FlashctlError
from flashctl.evm.message import Deadline
from flashctl.evm.missing_state import Missing
from flashctl.evm.state import StateDiff
from flashctl.op.envelope import TxEnvelope
from flashctl.remote.transactions import certain_needs, look_ahead
from flashctl.rpc.execution import FlashblockRun, PendingBlock
from flashctl.rpc.held import HeldPayload

__all__ = ["MAX_ROUNDS", "Run"]

HINT_ROUND: Final = 3
"""Fetches after which guessing is given up. Senders, code and first slots take two; real transactions of OP
Mainnet took ten on an empty cache without help."""

MAX_ROUNDS: Final = 2000
"""Fetches for one flashblock, each one dependent read deeper. Its execution time and the sealing of its
block end a walk much sooner; this only says that it does end."""

LOOK_AHEAD_S: Final = 0.2
"""Wall time, per round, for finding out what the flashblocks that wait will need."""

MAX_LOOKED_AHEAD: Final = 32
"""Flashblocks that are looked at in one round."""


@dataclass(slots=True, eq=False)
class Run:
    """See the module docstring."""

    held: HeldPayload
    block: PendingBlock
    """Of the payload, before this flashblock."""
    _run: FlashblockRun
    _rounds: int = 0
    _missing: Missing = field(default_factory=Missing)
    """What the last try lacked."""
    _ahead: Missing = field(default_factory=Missing)
    """What those behind it were found to lack."""
    _guessed: StateDiff | None = None
    """What it and those looked at behind it are believed to change."""
    _looked_at: set[tuple[str, int]] = field(default_factory=set)
    """Flashblocks looked at since the last try."""
    _is_hinted: bool = False

    @classmethod
    def of(cls, held: HeldPayload, block: PendingBlock) -> Run:
        """The execution of the next flashblock of a payload, on top of `block`.

        Raises:
            DataError: If one of its transactions is none.
        """
        index = held.executed
        return cls(held, block, FlashblockRun(block, held.flashblocks[index], held.envelopes(index)))

    @property
    def first_transaction(self) -> int:
        """Index in the block of the first transaction that it adds."""
        return len(self.block.envelopes)

    def lacks(self) -> Missing:
        """What the last try lacked and is still missing."""
        return self.block.state.canonical.without_known(self._missing)

    def advance(self) -> bool:
        """Try; whether something was missing.

        Raises:
            DataError: After MAX_ROUNDS.
            Diverged, ExecutionTimeout: If the flashblock cannot be executed.
        """
        self._missing = self._run.advance()
        if not self._missing:
            return False
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            raise DataError(f"state still missing after {MAX_ROUNDS} fetches")
        self._guessed = self._run.guessed
        self._looked_at.clear()
        return True

    def result(self) -> PendingBlock:
        """The block with the flashblock in it, when nothing was missing."""
        return self._run.result()

    def take_hopeless(self) -> Sequence[TxEnvelope]:
        """Transactions that have been through HINT_ROUND fetches and still lack something; told once."""
        if self._is_hinted or self._rounds < HINT_ROUND:
            return []
        self._is_hinted = True
        return self._run.unfinished

    def look_ahead(self, later: Sequence[HeldPayload]) -> Missing:
        """What the flashblocks behind this one will lack: the rest of its payload, then `later` ones."""
        deadline = Deadline(LOOK_AHEAD_S)
        for held in (self.held, *later):
            start = held.executed + (held is self.held)
            for index in range(start, len(held.flashblocks)):
                place = (held.payload_id, index)
                if place in self._looked_at or len(self._looked_at) >= MAX_LOOKED_AHEAD:
                    continue
                self._looked_at.add(place)
                try:
                    self._ahead.add(self._needs(held, index, deadline))
                except FlashctlError:
                    continue  # it will show when its turn comes
                except Exception as error:
                    defects.caught("rpc.look_ahead", error, f"payload {held.payload_id}")
        self._ahead = self.block.state.canonical.without_known(self._ahead)
        return self._ahead

    def _needs(self, held: HeldPayload, index: int, deadline: Deadline) -> Missing:
        envelopes = held.envelopes(index)
        if self._guessed is None or held is not self.held:
            return certain_needs(self.block.state, envelopes)
        missing, self._guessed = look_ahead(
            self.block.setting, self.block.state, self._guessed, envelopes, deadline
        )
        return missing
