"""The life of a service as its supervisor sees it: real processes, real signals."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

PREAMBLE = """
import asyncio, sys
from flashctl.cli.app import _report
from flashctl.core.service.log import configure_logging
from flashctl.core.service.metrics import Metrics
from flashctl.core.service.lifecycle import run_service
from flashctl.core.service.status import Health, serve_status, status_pages
from flashctl.errors import UnavailableError
configure_logging("info")
"""

ENDING = """
try:
    sys.exit(run_service(main, ready_fd=int(sys.argv[1]) if len(sys.argv) > 1 else None))
except Exception as error:
    sys.exit(_report(error, []))
"""


@contextlib.contextmanager
def service(body: str, *arguments: str, pass_fds: tuple[int, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `body`, which defines `main`; ended if the test does not end it."""
    code = PREAMBLE + textwrap.dedent(body) + ENDING
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


WAITING = """
    async def main(life):
        async def close():
            print("closed", flush=True)
        life.on_stop(close)
        life.spawn(asyncio.sleep(3600), "sleeper")
        life.ready()
        print("up", flush=True)
        await life.stopped()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_0(number: signal.Signals) -> None:
    with service(WAITING) as process:
        assert first_line(process) == "up"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == "closed\n"
    assert "draining" in err and "Traceback" not in err


def test_ready_is_written_once_every_port_listens() -> None:
    read_end, write_end = os.pipe()
    with service(WAITING, str(write_end), pass_fds=(write_end,)) as process:
        os.close(write_end)
        with os.fdopen(read_end) as reader:
            assert reader.read() == "ready\n"
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_forces_the_end(number: signal.Signals, code: int) -> None:
    body = """
    async def main(life):
        async def hang():
            print("hanging", flush=True)
            await asyncio.sleep(3600)
        life.on_stop(hang)
        print("up", flush=True)
        await life.stopped()
    """
    with service(body) as process:
        assert first_line(process) == "up"
        process.send_signal(number)
        assert first_line(process) == "hanging"
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == code


def test_a_task_that_fails_as_foreseen_ends_the_service_with_its_exit_code() -> None:
    body = """
    async def main(life):
        async def follow():
            raise UnavailableError("upstream is gone", hint="start it")
        life.spawn(follow(), "follow")
        await life.stopped()
    """
    with service(body) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 69
    assert err == "flashctl: error: upstream is gone\nhint: start it\n"


def test_a_task_with_a_bug_ends_the_service_with_one_line() -> None:
    body = """
    async def main(life):
        async def follow():
            return {}["missing"]
        life.spawn(follow(), "follow")
        await life.stopped()
    """
    with service(body) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "follow failed: KeyError: 'missing'" in err and "Traceback" not in err


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    body = """
    async def main(life):
        first = await serve_status("127.0.0.1", 0, {})
        await serve_status("127.0.0.1", first.port, {})
    """
    with service(body) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cannot listen on 127.0.0.1:" in err and "address already in use" in err
    assert len(err.splitlines()) == 2


def test_the_status_page() -> None:
    body = """
    async def main(life):
        metrics = Metrics("demo")
        metrics.counter("frames", "Frames seen.").inc(3)
        health = iter([Health(False, "waiting for index 0"), Health(True, degraded=True), Health(True)])
        page = await serve_status("127.0.0.1", 0, status_pages(metrics, lambda: next(health)))
        life.on_stop(page.close)
        life.ready()
        print(page.url, flush=True)
        await life.stopped()
    """

    def get(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url + path, timeout=60) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    with service(body) as process:
        url = first_line(process)
        assert get("/readyz") == (503, "waiting for index 0\n")
        assert get("/healthz") == (206, "OK\n")
        assert get("/healthz") == (200, "OK\n")
        assert get("/livez")[0] == 200
        assert "demo_frames_total 3.0" in get("/metrics")[1]
        assert get("/nothing")[0] == 404
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


RELOADING = """
    import os, signal
    async def main(life):
        life.on_reload(lambda: print("read again", flush=True), "keys")
        def broken():
            raise UnavailableError("not now")
        life.on_reload(broken, "certificate")
        life.on_reload(lambda: {}["missing"], "limits")
        life.ready()
        print("up", flush=True)
        await life.stopped()
"""


def test_sighup_reloads_and_what_fails_costs_nothing_else() -> None:
    with service(RELOADING) as process:
        assert first_line(process) == "up"
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
            assert first_line(process) == "read again"
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "reload of certificate: not now; what was in force stays" in err
    assert "reload limits: KeyError: 'missing'" in err
    assert 'what="log level, keys"' in err


def test_signals_of_log_rotation_end_nothing() -> None:
    with service(WAITING) as process:
        assert first_line(process) == "up"
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
            process.send_signal(number)
        process.terminate()
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "closed\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_before_it_is_ready_drains_too_but_is_no_success(number: signal.Signals, code: int) -> None:
    with service(WAITING.replace("life.ready()", "")) as process:
        assert first_line(process) == "up"
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "closed\n")


def test_a_second_signal_is_heard_while_the_loop_is_held() -> None:
    body = """
    async def main(life):
        async def hold():
            print("holding", flush=True)
            while True:
                pass
        life.on_stop(hold)
        life.ready()
        print("up", flush=True)
        await life.stopped()
    """
    with service(body) as process:
        assert first_line(process) == "up"
        process.terminate()
        assert first_line(process) == "holding"
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 143


def test_sighup_ends_a_tool() -> None:
    body = WAITING.replace("life.ready()", "")
    ending = ENDING.replace("run_service(main,", "run_service(main, is_tool=True,")
    process = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(body) + ending], stdout=subprocess.PIPE, text=True
    )
    assert first_line(process) == "up"
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "closed\n")


def test_a_terminal_that_closes_is_the_end_drained() -> None:
    """What SIGHUP meant first: a service started by hand does not stay behind on its ports."""
    ours, theirs = os.openpty()
    code = PREAMBLE + textwrap.dedent(WAITING) + ENDING
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=theirs, stderr=theirs, text=True
    )
    os.close(theirs)
    assert first_line(process) == "up"
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "closed\n")
