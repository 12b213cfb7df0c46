"""Frames of RFC 6455: what goes out, and what clients may send."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.raw_websocket import client_frame
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from flashctl.core.hub.framing import (
    ClientFrames,
    CloseCode,
    CloseFrame,
    FrameError,
    Ping,
    Pong,
    close_frame,
    data_frame,
    ping_frame,
)


def parsed_by_websockets(data: bytes) -> Frame:
    """What an independent implementation makes of a server frame."""
    reader = StreamReader()
    reader.feed_data(data)
    generator = Frame.parse(reader.read_exact, mask=False, max_size=None)
    with pytest.raises(StopIteration) as stop:
        next(generator)
    return stop.value.value


def frames(**settings: bool) -> ClientFrames:
    return ClientFrames(max_message=1000, **settings)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
@pytest.mark.parametrize("binary", [False, True])
def test_data_frames_are_read_by_another_implementation(size: int, binary: bool) -> None:
    frame = parsed_by_websockets(data_frame(b"x" * size, binary=binary))
    assert frame.opcode is (Opcode.BINARY if binary else Opcode.TEXT)
    assert frame.data == b"x" * size
    assert frame.fin
    assert not frame.rsv1


def test_close_reason_is_cut_at_a_character_boundary() -> None:
    frame = parsed_by_websockets(close_frame(1013, "é" * 100))
    assert len(frame.data) <= 125
    assert frame.data[2:].decode() == "é" * 61


def test_ping_frame() -> None:
    assert parsed_by_websockets(ping_frame(b"hi")).opcode is Opcode.PING


class TestControlFrames:
    """RFC 6455 section 5.5."""

    def test_ping_and_pong(self) -> None:
        assert frames().feed(client_frame(9, b"a") + client_frame(10, b"b")) == [Ping(b"a"), Pong(b"b")]

    def test_between_fragments(self) -> None:
        data = client_frame(1, b"a", fin=False) + client_frame(9, b"p") + client_frame(0, b"b")
        assert frames().feed(data) == [Ping(b"p")]

    def test_fragmented(self) -> None:
        self.refuses(client_frame(9, b"a", fin=False), CloseCode.PROTOCOL_ERROR)

    def test_over_125_bytes(self) -> None:
        self.refuses(client_frame(9, b"a" * 126), CloseCode.PROTOCOL_ERROR)

    def test_close(self) -> None:
        assert frames().feed(client_frame(8, b"\x03\xe8bye")) == [CloseFrame(1000, "bye")]
        assert frames().feed(client_frame(8)) == [CloseFrame(None, "")]

    def test_nothing_after_close_is_read(self) -> None:
        assert frames().feed(client_frame(8) + b"\xff" * 20) == [CloseFrame(None, "")]

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
    def test_close_codes_that_must_not_be_sent(self, code: int) -> None:
        self.refuses(client_frame(8, code.to_bytes(2, "big")), CloseCode.PROTOCOL_ERROR)

    def test_close_of_one_byte(self) -> None:
        self.refuses(client_frame(8, b"\x03"), CloseCode.PROTOCOL_ERROR)

    def test_close_reason_that_is_not_utf8(self) -> None:
        self.refuses(client_frame(8, b"\x03\xe8\xff"), CloseCode.INVALID_DATA)

    @staticmethod
    def refuses(data: bytes, code: CloseCode) -> None:
        with pytest.raises(FrameError) as caught:
            frames().feed(data)
        assert caught.value.code is code


def test_many_frames_in_one_read_are_refused_early() -> None:
    with pytest.raises(FrameError) as caught:
        frames().feed(client_frame(9) * 10_000)
    assert caught.value.code is CloseCode.POLICY


class TestDataFrames:
    """RFC 6455 sections 5.1, 5.2, 5.4 and 8.1."""

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (client_frame(1, b"x", masked=False), CloseCode.PROTOCOL_ERROR),
            (client_frame(1, b"x", rsv=0x40), CloseCode.PROTOCOL_ERROR),
            (client_frame(1, b"x", rsv=0x20), CloseCode.PROTOCOL_ERROR),
            (client_frame(3, b"x"), CloseCode.PROTOCOL_ERROR),
            (client_frame(11, b"x"), CloseCode.PROTOCOL_ERROR),
            (client_frame(0, b"x"), CloseCode.PROTOCOL_ERROR),
            (client_frame(1, b"x", fin=False) + client_frame(1, b"y"), CloseCode.PROTOCOL_ERROR),
            (client_frame(1, b"\xff"), CloseCode.INVALID_DATA),
            (client_frame(1, b"\xc3", fin=False) + client_frame(0, b"("), CloseCode.INVALID_DATA),
            (client_frame(1, b"\xc3"), CloseCode.INVALID_DATA),
            (client_frame(2, b"x" * 1001), CloseCode.TOO_BIG),
            (client_frame(2, b"x" * 600, fin=False) + client_frame(0, b"x" * 600), CloseCode.TOO_BIG),
        ],
    )
    def test_refused(self, data: bytes, code: CloseCode) -> None:
        with pytest.raises(FrameError) as caught:
            frames().feed(data)
        assert caught.value.code is code

    def test_a_huge_message_is_refused_by_its_header(self) -> None:
        with pytest.raises(FrameError) as caught:
            frames().feed(b"\x82\xff" + (100 << 20).to_bytes(8, "big"))
        assert caught.value.code is CloseCode.TOO_BIG

    def test_text_split_inside_a_character(self) -> None:
        assert frames().feed(client_frame(1, b"\xc3", fin=False) + client_frame(0, b"\xa9")) == []

    def test_compressed_frames_need_the_extension(self) -> None:
        assert frames(deflate=True).feed(client_frame(1, b"\xff\xff", rsv=0x40)) == []

    def test_binary_is_ignored(self) -> None:
        parser = frames()
        assert parser.feed(client_frame(2, b"\xff" * 1000)) == []
        assert parser.idle


_EVENTS = st.lists(
    st.one_of(
        st.builds(lambda payload: (client_frame(9, payload), Ping(payload)), st.binary(max_size=125)),
        st.builds(lambda payload: (client_frame(10, payload), Pong(payload)), st.binary(max_size=125)),
        st.builds(lambda payload: (client_frame(2, payload), None), st.binary(max_size=300)),
        st.builds(lambda text: (client_frame(1, text.encode()), None), st.text(max_size=80)),
    ),
    max_size=8,
)


@settings(max_examples=examples(60))
@given(_EVENTS, st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_the_same_events_however_the_bytes_are_cut(events: list, cuts: list[int]) -> None:
    data = b"".join(frame for frame, _ in events)
    parser, found, position, turn = frames(), [], 0, 0
    while position < len(data):
        step = cuts[turn % len(cuts)]
        found += parser.feed(data[position : position + step])
        position, turn = position + step, turn + 1
    assert found == [event for _, event in events if event is not None]
    assert parser.idle


@settings(max_examples=examples(100))
@given(st.binary(max_size=200))
def test_noise_ends_in_a_frame_error_or_in_nothing(data: bytes) -> None:
    try:
        frames().feed(data)
    except FrameError as error:
        assert error.reason
