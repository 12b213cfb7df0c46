"""The live view in a real terminal, driven by tmux: keys, a new size, the scrollback, and what is left
behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.waiting import wait_until
from support.watch_lab import HOLD, StreamServer, block, text_frames

from flashctl.watch.recording import Replay

TMUX = shutil.which("tmux")
pytestmark = pytest.mark.skipif(TMUX is None, reason="tmux is not installed")


class Terminal:
    """A detached tmux session that runs one command."""

    def __init__(self, command: str, width: int = 80, height: int = 24) -> None:
        self._socket = f"flashctl-{uuid.uuid4().hex[:8]}"
        # The shell stays, so that what the command leaves behind can be looked at.
        self._tmux("new-session", "-d", "-x", str(width), "-y", str(height), "sh")
        self.keys(f"PS1=; clear; {command}; echo exit=$?", "Enter")

    def _tmux(self, *arguments: str) -> str:
        assert TMUX is not None
        result = subprocess.run(
            [TMUX, "-L", self._socket, *arguments], capture_output=True, text=True, timeout=60
        )
        return result.stdout

    def keys(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def screen(self, *, history: bool = False) -> str:
        return self._tmux("capture-pane", "-p", *(("-S", "-200") if history else ()))

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def until(self, condition: Callable[[str], bool], *, history: bool = False) -> str:
        """The screen, once it looks as expected."""
        screen = ""

        def shown() -> bool:
            nonlocal screen
            screen = self.screen(history=history)
            return condition(screen)

        wait_until(shown, explain=lambda: f"never came:\n{self.screen(history=True)}")
        return screen

    def close(self) -> None:
        self._tmux("kill-server")


@pytest.fixture
def stream() -> Iterator[StreamServer]:
    frames = [
        step for number in range(1, 200) for frame in text_frames(block(number, 5)) for step in (frame, 0.04)
    ]
    with StreamServer([*frames, HOLD]) as server:
        yield server


@pytest.fixture
def start() -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def run(arguments: str, **size: int) -> Terminal:
        terminals.append(Terminal(f"{sys.executable} -m flashctl watch {arguments}", **size))
        return terminals[-1]

    yield run
    for terminal in terminals:
        terminal.close()


def test_the_newest_payload_is_on_top_and_q_leaves_the_rest_behind(
    stream: StreamServer, start: Callable[..., Terminal]
) -> None:
    terminal = start(stream.url)
    screen = terminal.until(lambda text: "#4 " in text)
    blocks = [int(line[1:].split()[0]) for line in screen.splitlines() if line.startswith("#")]
    assert blocks == sorted(blocks, reverse=True) and len(blocks) >= 2
    assert max(map(len, screen.splitlines())) < 80
    terminal.keys("q")
    left = terminal.until(lambda text: "exit=0" in text, history=True)
    # Everything that was shown is in the scrollback, oldest first, each payload once.
    lasting = [line.split()[0] for line in left.splitlines() if line.startswith("#")]
    assert lasting == sorted(set(lasting), key=lambda name: int(name[1:])) and lasting[0] == "#1"
    assert "flashblocks of" in left


def test_space_pauses_and_resumes(stream: StreamServer, start: Callable[..., Terminal]) -> None:
    terminal = start(stream.url)
    terminal.until(lambda text: "#2 " in text)
    terminal.keys("Space")
    frozen = terminal.until(lambda text: "PAUSED" in text)
    sent = stream.sent
    wait_until(lambda: stream.sent >= sent + 15)
    assert terminal.screen() == frozen
    terminal.keys("Space")
    terminal.until(lambda text: "PAUSED" not in text and text != frozen)
    terminal.keys("q")
    terminal.until(lambda text: "exit=0" in text)


def test_a_new_size_is_laid_out_anew(stream: StreamServer, start: Callable[..., Terminal]) -> None:
    terminal = start(stream.url)
    terminal.until(lambda text: "#3 " in text and "0x0000.." in text)
    terminal.resize(132, 40)
    wide = terminal.until(lambda text: "0x00000000000000" in text)
    assert sum(line.startswith("   idx") for line in wide.splitlines()) == 1, "one view, not two"
    terminal.resize(60, 15)
    narrow = terminal.until(lambda text: text.count("\n") <= 16 and "0x0000.." in text)
    assert sum(line.startswith("   idx") for line in narrow.splitlines()) == 1
    terminal.keys("q")
    terminal.until(lambda text: "exit=0" in text)


def test_a_filter_is_typed_after_a_slash(stream: StreamServer, start: Callable[..., Terminal]) -> None:
    terminal = start(stream.url, width=120, height=40)
    terminal.until(lambda text: "#3 " in text)
    terminal.keys("/", "#2", "Enter")
    screen = terminal.until(lambda text: "filter: #2" in text)
    assert "#2 " in screen and "#3 " not in screen
    terminal.keys("q")
    terminal.until(lambda text: "exit=0" in text)


def test_control_c_and_the_terminal_as_it_was(stream: StreamServer, start: Callable[..., Terminal]) -> None:
    terminal = start(stream.url)
    terminal.until(lambda text: "#2 " in text)
    terminal.keys("C-c")
    terminal.until(lambda text: "exit=0" in text)
    terminal.keys("echo still here", "Enter")
    screen = terminal.until(lambda text: text.count("still here") >= 2)
    assert "echo still here" in screen, "typing is echoed again"


def test_head_in_a_terminal(stream: StreamServer, start: Callable[..., Terminal]) -> None:
    terminal = start(f"{stream.url} | head -2")
    screen = terminal.until(lambda text: "exit=0" in text)
    lines = [line for line in screen.splitlines() if line.strip(" #")]
    assert len(lines) == 3 and "rror" not in screen, "two lines and the exit code"


def test_a_dumb_terminal_gets_lines(
    stream: StreamServer, start: Callable[..., Terminal], tmp_path: Path
) -> None:
    terminal = start(f"{stream.url} -n 2 2>/dev/null")
    terminal.until(lambda text: "exit=0" in text)
    terminal.keys(
        f"clear; TERM=dumb {sys.executable} -m flashctl watch {stream.url} -n 2; echo end=$?", "Enter"
    )
    screen = terminal.until(lambda text: "end=0" in text)
    assert "+0 tx" in screen and "idx" not in screen


def test_keys_work_again_after_a_stop_and_fg(stream: StreamServer, start: Callable[..., Terminal]) -> None:
    terminal = start(stream.url)
    terminal.until(lambda text: "#2 " in text)
    terminal.keys("C-z")
    terminal.until(lambda text: "topped" in text)
    terminal.keys("fg", "Enter")
    terminal.until(lambda text: "#5 " in text)
    terminal.keys("Space")
    terminal.until(lambda text: "PAUSED" in text)
    terminal.keys("q")
    terminal.until(lambda text: "flashblocks of" in text, history=True)


def test_a_pane_of_five_lines_keeps_its_header(stream: StreamServer, start: Callable[..., Terminal]) -> None:
    terminal = start(stream.url, height=5)
    terminal.until(lambda text: "#3 " in text)
    sent = stream.sent
    wait_until(lambda: stream.sent >= sent + 25)
    screen = terminal.screen(history=True)
    assert sum(line.startswith("   idx") for line in screen.splitlines()) == 1
    terminal.keys("q")
    terminal.until(lambda text: "exit=0" in text)


def test_the_shell_gets_its_terminal_back_while_stopped(
    stream: StreamServer, start: Callable[..., Terminal]
) -> None:
    terminal = start(stream.url)
    terminal.until(lambda text: "#2 " in text)
    terminal.keys("C-z")
    terminal.until(lambda text: "topped" in text)
    terminal.keys("stty -a | grep -o ' .\\?icanon'; echo seen=$?", "Enter")
    screen = terminal.until(lambda text: "seen=0" in text)
    assert "-icanon" not in screen and "NDELAY" not in screen
    terminal.keys("kill %1; bg", "Enter")
    # Ended in the background, where it must leave the terminal alone.
    terminal.until(lambda text: "flashblocks of" in text, history=True)
    terminal.keys("clear; wait; echo left=$(jobs | wc -l)", "Enter")
    terminal.until(lambda text: "left=0" in text)


@pytest.mark.parametrize("end", ["q", "TERM"])
def test_ctrl_s_stops_the_output_and_not_the_recording(
    stream: StreamServer, start: Callable[..., Terminal], tmp_path: Path, end: str
) -> None:
    path = tmp_path / "cap.ndjson"
    terminal = start(f"{stream.url} --record {path} & echo $! > {tmp_path}/pid; fg")
    terminal.until(lambda text: "#2 " in text)
    terminal.keys("C-s")
    lines = path.read_bytes().count(b"\n")
    wait_until(
        lambda: path.read_bytes().count(b"\n") >= lines + 100,
        explain=lambda: "it records while the terminal is stopped",
    )
    if end == "q":
        terminal.keys("q")
    else:
        subprocess.run(["kill", (tmp_path / "pid").read_text().strip()], check=True)
    terminal.until(lambda text: "exit=0" in text and "recorded" in text, history=True)
    stamps = [arrival.monotonic_ns for arrival in Replay(path)]
    assert len(stamps) > 100 and stamps == sorted(stamps)
