"""What the tests of watch share: a stream on which everything happens once, and recordings of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.flashblocks import streamed_block
from support.watch_lab import HOLD, StreamServer, arrive, block, story, text_frames

from flashctl.watch.recording import line_of_arrival


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "story.ndjson"
    path.write_bytes(b"".join(line_of_arrival(arrive(frame, n)) for n, frame in enumerate(story())))
    return path


@pytest.fixture
def sepolia(tmp_path: Path) -> Path:
    path = tmp_path / "sepolia.ndjson"
    frames = [json.dumps(content).encode() for content in streamed_block()]
    start = int(streamed_block()[0]["base"]["timestamp"], 16) * 10**9 - 2 * 10**9
    path.write_bytes(b"".join(line_of_arrival(arrive(f, n, start_ns=start)) for n, f in enumerate(frames)))
    return path


@pytest.fixture
def profile(tmp_path: Path) -> Any:
    """A stream behind a profile called `base`, as in the one-liners."""
    frames = [*text_frames(story()), *text_frames([f for n in range(20, 40) for f in block(n, 4)])]
    with StreamServer([*frames, HOLD]) as server:
        folder = tmp_path / "config" / "flashctl" / "profiles"
        folder.mkdir(parents=True)
        (folder / "base.toml").write_text(f'[watch]\nurl = "{server.url}"\n')
        yield {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HERE": str(tmp_path)}
