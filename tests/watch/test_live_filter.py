"""The live view's `/`: what the flags filter by, how many rows are shown, and the keys."""

from __future__ import annotations

import pytest
from support.decode_lab import FRIEND, SENDER, TOKEN, every_type
from support.flashblocks import make_flashblock
from support.watch_lab import TX, TX_HASH, block, follow, message, story

from flashctl.core.flashblocks.wire import encode
from flashctl.watch import live_view
from flashctl.watch.config import FilterConfig
from flashctl.watch.events import WatchEvent
from flashctl.watch.filters import make_filter
from flashctl.watch.live_rows import Screen
from flashctl.watch.live_view import LiveView
from flashctl.watch.stream_stats import StreamStats

RAWS = every_type()
KINDS = {21: ("attributes", "eip1559", "legacy"), 22: ("attributes", "create", "eip7702")}
STREAM = [
    encode(make_flashblock(number, index, number, transactions=(raw,), gas_used=21_000 * (index + 1)))
    for number, kinds in (
        (21, ("attributes", "eip1559", "legacy")),
        (22, ("attributes", "create", "eip7702")),
    )
    for index, raw in enumerate(RAWS[kind] for kind in kinds)
]


def view_of(events: list[WatchEvent], width: int = 120, height: int = 60) -> LiveView:
    stats = StreamStats()
    view = LiveView("ws://x", stats, Screen(width, height, False, True))
    for event in events:
        stats.add(event)
        view.show(event)
    return view


def press(view: LiveView, text: str) -> list[str]:
    for character in f"/{text}\r":
        view.key(character)
    return view.frame()


def rows(lines: list[str]) -> list[tuple[int, int]]:
    """Block and index of the rows shown, oldest first."""
    shown, block_number = [], 0
    for line in lines:
        if line.startswith("#"):
            block_number = int(line[1:].split()[0])
        elif line.startswith("  ["):
            shown.append((block_number, int(line[3:5])))
    return sorted(shown)


CRITERIA = [
    (f"from:{SENDER}", FilterConfig(senders=(SENDER,))),
    (f"to:0x{TOKEN.hex()}", FilterConfig(targets=("0x" + TOKEN.hex(),))),
    (f"0x{TOKEN.hex()}", FilterConfig(addresses=("0x" + TOKEN.hex(),))),
    (f"address:0x{FRIEND.hex()}", FilterConfig(addresses=("0x" + FRIEND.hex(),))),
    ("0xa9059cbb", FilterConfig(selectors=("0xa9059cbb",))),
    ("transfer(address,uint256)", FilterConfig(selectors=("0xa9059cbb",))),
    ("deposit", FilterConfig(types=("deposit",))),
    ("type:0x4", FilterConfig(types=("0x4",))),
    ("min-value:1", FilterConfig(min_value=1)),
    ("index:1..2", FilterConfig(indices="1..2")),
]


@pytest.mark.parametrize(("typed", "flags"), CRITERIA, ids=[typed for typed, _ in CRITERIA])
def test_typed_filters_show_what_the_flags_show(typed: str, flags: FilterConfig) -> None:
    events = follow(STREAM)
    by_flags = make_filter(flags)
    assert by_flags is not None
    expected = sorted(
        (event.block or 0, event.index or 0)
        for event in events
        if event.row is not None and by_flags.apply(event) is not None
    )
    lines = press(view_of(events), typed)
    assert rows(lines) == expected
    assert any(f"{len(expected)} of 6 flashblocks shown" in line for line in lines)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (TX_HASH, [(21, 1)]),
        (f"tx:{TX_HASH[:12]}", [(21, 1)]),
        (TX_HASH[:12], [(21, 1)]),
        ("0x0000000000000016", [(22, 0), (22, 1), (22, 2)]),
        ("#21", [(21, 0), (21, 1), (21, 2)]),
        ("block:21 eip1559", [(21, 1)]),
        ("#21 0xa9059cbb eip7702", []),
        ("0x" + "77" * 20, []),
    ],
)
def test_hash_payload_number_and_several_words(typed: str, expected: list[tuple[int, int]]) -> None:
    lines = press(view_of(follow(STREAM)), typed)
    assert rows(lines) == expected and any(
        f"{len(expected)} of 6 flashblocks shown" in line for line in lines
    )


def test_a_mark_is_a_filter() -> None:
    lines = press(view_of(follow(story())), "gap")
    assert rows(lines) == [(10, 4)]


def test_what_cannot_be_a_filter_is_said_and_hides_nothing() -> None:
    lines = press(view_of(follow(STREAM)), "to:0x12")
    assert len(rows(lines)) == 6 and any("filter not applied: --to" in line for line in lines)
    assert len(rows(press(view_of(follow(STREAM)), "min-value:-1"))) == 6


def test_old_rows_lose_their_transactions_and_keep_their_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_view, "MAX_KEPT_BYTES", 5_000)
    frames = [message(number, 0, transactions=(TX,)) for number in range(1, 40)]
    view = view_of(follow(frames), height=200)
    assert len(rows(view.frame())) == 39
    kept = rows(press(view, TX_HASH))
    assert 1 <= len(kept) < 39 and kept[-1] == (39, 0)


def test_keys_are_shown_while_there_is_room_and_explained_on_request() -> None:
    events = follow([frame for number in range(1, 9) for frame in block(number, 4)])
    tall, low = view_of(events, 80, 24), view_of(events, 80, 10)
    assert "? keys" in tall.frame()[-1] and not any("? keys" in line for line in low.frame())
    tall.key("?")
    lines = tall.frame()
    assert any("selector" in line for line in lines) and len(lines) < 24 and max(map(len, lines)) < 80
    tall.key("?")
    assert not any("selector" in line for line in tall.frame())


def test_fifty_columns_keep_offset_and_sparkline() -> None:
    lines = view_of(follow(story()), 50, 24).frame()
    assert max(map(len, lines)) < 50
    assert lines[1].rstrip()[-1] in "▁▂▃▄▅▆▇█" and lines[2].rstrip().endswith("slot ms")
    (first,) = [line for line in lines if "-20000" in line]
    assert first.startswith("  [ 0]")


def test_two_hundred_columns_show_transactions() -> None:
    lines = view_of(follow(STREAM), 200, 40).frame()
    (row,) = [line for line in lines if TX_HASH[:10] in line]
    assert f"{TX_HASH[:10]}→" in row and "[ 1]" in row
    many = follow([message(1, 0, transactions=(TX,) * 40)])
    (row,) = [line for line in view_of(many, 200, 40).frame() if TX_HASH[:10] in line]
    assert (
        len(row) < 200 and row.count(TX_HASH[:10]) >= 2 and row.endswith(f"+{40 - row.count(TX_HASH[:10])}")
    )
    assert not any(TX_HASH[:10] in line for line in view_of(many, 199, 40).frame())
