"""What the stream promised is what the chain sealed, checked by executing every block again."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from support.devnet import Devnet, devnet
from websockets.sync.client import connect

from flashctl.chain.chain import Chain
from flashctl.chain.genesis import load_genesis
from flashctl.core.flashblocks.wire import Flashblock, decode


class Recorder:
    """Collects a stream in a thread, from its first flashblock until the server goes away."""

    def __init__(self, url: str) -> None:
        self.payloads: dict[str, list[Flashblock]] = {}
        self._connection = connect(url, max_size=None, legacy=True)
        self._thread = threading.Thread(target=self._collect)
        self._thread.start()

    def _collect(self) -> None:
        for message in self._connection:
            binary = isinstance(message, bytes)
            flashblock = decode(message if isinstance(message, bytes) else message.encode(), binary=binary)
            self.payloads.setdefault(flashblock.payload_id, []).append(flashblock)

    def finish(self) -> dict[str, list[Flashblock]]:
        self._thread.join(timeout=60)
        return self.payloads


def run_and_check(blocks: int, folder: Path, *flags: str) -> None:
    with devnet("--datadir", str(folder), "--blocks", str(blocks), "--tx-rate", "50", *flags) as running:
        recorder = Recorder(running.url("stream"))
        sealed = list(running.events())
        assert running.process.wait(timeout=60) == 0
    assert [event["block"] for event in sealed] == list(range(1, blocks + 1))
    check_against_execution(running, sealed, recorder.finish(), folder)


def check_against_execution(
    running: Devnet, sealed: list[dict[str, object]], payloads: dict[str, list[Flashblock]], folder: Path
) -> None:
    """Import every sealed block into a fresh chain: each root of each header is computed again."""
    genesis = load_genesis(folder / "genesis.json")
    fallback, fresh = Chain.open(genesis, folder / "fallback"), Chain.open(genesis)
    carried = 0
    for event in sealed:
        kept = fallback.block(bytes.fromhex(str(event["hash"])[2:]))
        assert kept is not None
        block = kept.block
        assert fresh.import_block(block).header == block.header
        flashblocks = payloads.get(str(event["payload_id"]), [])
        if not flashblocks:
            continue  # sealed before the recorder subscribed, or announced too late on a busy machine
        assert [flashblock.index for flashblock in flashblocks] == list(range(len(flashblocks)))
        last = flashblocks[-1].diff
        assert last.block_hash == block.header.hash
        assert last.state_root == block.header.state_root
        assert last.receipts_root == block.header.receipts_root
        assert last.withdrawals_root == block.header.withdrawals_root
        preconfirmed = [raw for flashblock in flashblocks for raw in flashblock.diff.transactions]
        assert tuple(preconfirmed) == block.transactions
        carried += len(preconfirmed) - 1
    assert carried > 0, "the traffic never reached a block"


def test_sealed_blocks_equal_their_flashblocks(tmp_path: Path) -> None:
    run_and_check(4, tmp_path, "--block-time", "1")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_hundred_blocks_equal_their_flashblocks(tmp_path: Path) -> None:
    run_and_check(100, tmp_path)
