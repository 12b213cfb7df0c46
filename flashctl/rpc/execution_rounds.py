"""Execution of a flashblock in rounds, until no state is missing, with look-ahead to the queued ones.

Each round finds the missing state, which is fetched, and the next round gets further. Queued flashblocks are
executed speculatively in the same rounds, on a guess of the state before them, so that a fetch serves all of
them: at 200 ms for a round trip and a flashblock every 200 ms, one after the other would fall behind
    steadily.
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
from flashctl.rpc.held_payloads import HeldPayload

__all__ = ["MAX_ROUNDS", "ExecutionRounds"]

HINT_ROUND: Final = 3
"""Fetches after which access lists are requested. Senders, code and first slots take two; real transactions
of OP Mainnet took ten on an empty cache otherwise."""

MAX_ROUNDS: Final = 2000
"""Fetches for one flashblock, each one dependent read deeper. Its time limit and the sealing of its block end
it much sooner; this bound only guarantees termination."""

LOOK_AHEAD_S: Final = 0.2
"""Wall time per round for the speculative execution of queued flashblocks."""

MAX_LOOKED_AHEAD: Final = 32
"""Flashblocks executed speculatively in one round."""


@dataclass(slots=True, eq=False)
class ExecutionRounds:
    """See the module docstring."""

    held: HeldPayload
    block: PendingBlock
    """Of the payload, before this flashblock."""
    _run: FlashblockRun
    _rounds: int = 0
    _missing: Missing = field(default_factory=Missing)
    """State missing in the last round."""
    _ahead: Missing = field(default_factory=Missing)
    """State missing for the queued ones."""
    _guessed: StateDiff | None = None
    """The presumed changes of it and of those executed speculatively."""
    _looked_at: set[tuple[str, int]] = field(default_factory=set)
    """Flashblocks executed speculatively since the last round."""
    _is_hinted: bool = False

    @classmethod
    def of(cls, held: HeldPayload, block: PendingBlock) -> ExecutionRounds:
        """The execution of the next flashblock of a payload, on top of `block`.

        Raises:
            DataError: If one of its transactions is malformed.
        """
        index = held.executed
        return cls(held, block, FlashblockRun(block, held.flashblocks[index], held.envelopes(index)))

    @property
    def first_transaction(self) -> int:
        """Index in the block of the first transaction that it adds."""
        return len(self.block.envelopes)

    def lacks(self) -> Missing:
        """The missing state of the last round that is not fetched yet."""
        return self.block.state.canonical.without_known(self._missing)

    def advance(self) -> bool:
        """Execute one round; whether state was missing.

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
        """The block including the flashblock, once nothing is missing."""
        return self._run.result()

    def take_hopeless(self) -> Sequence[TxEnvelope]:
        """Transactions that still lack state after HINT_ROUND fetches; returned once."""
        if self._is_hinted or self._rounds < HINT_ROUND:
            return []
        self._is_hinted = True
        return self._run.unfinished

    def look_ahead(self, later: Sequence[HeldPayload]) -> Missing:
        """The state missing for the flashblocks after this one: the rest of its payload, then `later`
        ones."""
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
                    continue  # it fails again when it is executed
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
