"""Boost with a real builder and a real fallback: processes that are killed, stopped, restarted."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from support.hand_started import HandStarted, hand_started
from support.waiting import until

from flashctl.boost.modes import ExecutionMode


def play(
    folder: Path, scenario: Callable[[HandStarted], Awaitable[None]], *, boost_flags: tuple[str, ...] = ()
) -> None:
    async def main() -> None:
        async with hand_started(folder, boost_flags=boost_flags) as setup:
            await setup.sealed_blocks(2, with_flashblocks=True)
            await scenario(setup)
            setup.check_chain()

    asyncio.run(main())


def test_builder_killed_in_the_middle_of_a_block_started_again_and_stopped(tmp_path: Path) -> None:
    async def scenario(setup: HandStarted) -> None:
        announced = len(setup.flashblocks)
        await until(lambda: len(setup.flashblocks) > announced)
        builder = setup.family.child("builder")
        builder.signal(signal.SIGKILL)
        await builder.process.wait()
        await setup.sealed_blocks(2, with_flashblocks=False)
        await setup.start("builder")
        await setup.sealed_blocks(2, with_flashblocks=True)
        assert await setup.head(setup.ports.builder_rpc) >= setup.sealed[-1].block.number
        # Stopped, its sockets accept and nothing answers: worse than gone.
        builder = setup.family.child("builder")
        builder.signal(signal.SIGSTOP)
        await setup.sealed_blocks(2, with_flashblocks=False)
        builder.signal(signal.SIGCONT)
        await setup.sealed_blocks(2, with_flashblocks=True)
        # The blocks it was lost on are those its flashblocks announced, and none waited long.
        assert all(decision["kept_promises"] for decision in setup.decisions())

    play(tmp_path, scenario, boost_flags=("--builder-timeout", "300"))


def test_a_fallback_that_lost_everything_fetches_the_chain_from_the_builder(tmp_path: Path) -> None:
    async def scenario(setup: HandStarted) -> None:
        fallback = setup.family.child("fallback")
        fallback.signal(signal.SIGKILL)
        await fallback.process.wait()
        shutil.rmtree(setup.layout.chain("fallback"))
        await setup.start("fallback")
        # Its consensus client names a head and sends the next block, never those before.
        await setup.sealed_blocks(2, with_flashblocks=True)
        assert await setup.head(setup.ports.fallback_rpc) >= setup.sealed[-1].block.number

    play(tmp_path, scenario)


@pytest.mark.slow
def test_modes_of_a_running_pipeline(tmp_path: Path) -> None:
    async def scenario(setup: HandStarted) -> None:
        debug = setup.debug()
        for mode in (ExecutionMode.DRY_RUN, ExecutionMode.DISABLED):
            await debug.set_mode(mode)
            await setup.sealed_blocks(2, with_flashblocks=False)
        await debug.set_mode(ExecutionMode.ENABLED)
        await setup.sealed_blocks(2, with_flashblocks=True)
        await debug.close()
        reasons = {(decision["mode"], decision["source"]) for decision in setup.decisions()}
        assert reasons >= {("enabled", "builder"), ("dry_run", "l2"), ("disabled", "l2")}
        assert not reasons & {("dry_run", "builder"), ("disabled", "builder")}

    play(tmp_path, scenario)


@pytest.mark.slow
def test_boost_itself_restarted(tmp_path: Path) -> None:
    async def scenario(setup: HandStarted) -> None:
        boost = setup.family.child("boost")
        boost.signal(signal.SIGKILL)
        await boost.process.wait()
        await setup.start("boost")
        await setup.sealed_blocks(2, with_flashblocks=True)

    play(tmp_path, scenario)
