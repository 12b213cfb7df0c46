"""RFC 6455 frames, as far as a fan-out server needs them: whole messages out, control frames and noise in.

Server to client nothing is masked, so the same bytes go to every client: `data_frame` builds them once per
message. Client to server the hub expects only control frames; `ClientFrames` nevertheless holds a client to
every rule of section 5, because a peer that breaks framing cannot be resynchronised.

The `websockets` package could do the second half, but its protocol object lives as long as the connection
does and makes a client cost 12 KiB; this parser is made when bytes arrive and dropped when none are left.
"""

from __future__ import annotations

import codecs
import struct
from dataclasses import dataclass
from enum import IntEnum

from websockets.utils import apply_mask

__all__ = [
    "ClientFrames",
    "CloseCode",
    "CloseFrame",
    "FrameError",
    "FrameOpcode",
    "Incoming",
    "Ping",
    "Pong",
    "close_frame",
    "data_frame",
    "ping_frame",
    "pong_frame",
]

FIN = 0x80
RSV1 = 0x40
MASKED = 0x80
MAX_CONTROL_PAYLOAD = 125
"""RFC 6455 section 5.5."""

MAX_FRAMES_AT_ONCE = 64
"""Frames of one read: 256 KiB of empty pings are 40,000 frames, and parsing them would delay all clients."""

MAX_REASON_BYTES = MAX_CONTROL_PAYLOAD - 2


class FrameOpcode(IntEnum):
    """RFC 6455 section 11.8."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class CloseCode(IntEnum):
    """Why a connection ends (RFC 6455 section 7.4, and the registry for 1013)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    INVALID_DATA = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013


class FrameError(Exception):
    """The client broke the framing; the connection ends with `code`."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered with a pong of the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """An answer to one of our pings, or unsolicited; either proves the client is alive."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class CloseFrame:
    """The client's close frame; `code` is None when it carried none."""

    code: int | None
    reason: str


Incoming = Ping | Pong | CloseFrame


def data_frame(payload: bytes, *, binary: bool, compressed: bool = False) -> bytes:
    """One unfragmented, unmasked data frame; `compressed` marks a permessage-deflate payload."""
    opcode = FrameOpcode.BINARY if binary else FrameOpcode.TEXT
    return _header(FIN | (RSV1 if compressed else 0) | opcode, len(payload)) + payload


def ping_frame(payload: bytes = b"") -> bytes:
    """A ping of at most 125 bytes."""
    return _header(FIN | FrameOpcode.PING, len(payload)) + payload


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping."""
    return _header(FIN | FrameOpcode.PONG, len(payload)) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; a reason longer than the 123 bytes that fit is cut at a character boundary."""
    text = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()
    return _header(FIN | FrameOpcode.CLOSE, 2 + len(text)) + struct.pack("!H", code) + text


def _header(first: int, length: int) -> bytes:
    if length < 126:
        return bytes((first, length))
    if length < 1 << 16:
        return struct.pack("!BBH", first, 126, length)
    return struct.pack("!BBQ", first, 127, length)


class ClientFrames:
    """What one client sends, checked and reduced to its control frames.

    Data messages are validated (masking, fragmentation, UTF-8, size) and then ignored: a fan-out has no use
    for them. Only the bytes of one incomplete frame are kept, so memory is bounded by `max_message`.

        frames = ClientFrames(max_message=4096)
        for event in frames.feed(chunk): ...
    """

    __slots__ = ("_buffer", "_compressed", "_decoder", "_deflate", "_max_message", "_opcode", "_size")

    def __init__(self, *, max_message: int, deflate: bool = False) -> None:
        self._buffer = b""
        self._max_message = max_message
        self._deflate = deflate
        self._opcode: int | None = None
        self._size = 0
        self._compressed = False
        self._decoder: codecs.IncrementalDecoder | None = None

    @property
    def idle(self) -> bool:
        """Nothing is left over: this object may be dropped and replaced by a fresh one."""
        return not self._buffer and self._opcode is None

    def feed(self, data: bytes) -> list[Incoming]:
        """The control frames completed by `data`, in order; nothing after a close frame is looked at.

        Raises:
            FrameError: If a rule of RFC 6455 is broken or a message is too big; feed nothing more then.
        """
        buffer = self._buffer + data if self._buffer else data
        events: list[Incoming] = []
        position = frames = 0
        while (end := self._frame_end(buffer, position)) is not None:
            start, stop = end
            event = self._accept(buffer[position], buffer[start - 4 : start], buffer[start:stop])
            position = stop
            frames += 1
            if frames > MAX_FRAMES_AT_ONCE:
                raise FrameError(CloseCode.POLICY, "too many frames at once; this stream takes no input")
            if event is not None:
                events.append(event)
                if isinstance(event, CloseFrame):
                    position = len(buffer)
                    break
        self._buffer = buffer[position:]
        return events

    def _frame_end(self, buffer: bytes, position: int) -> tuple[int, int] | None:
        """Where the payload of the frame at `position` starts and stops, or None while incomplete.

        The header is judged as soon as it is there, so a client cannot announce 100 MB and be waited for.
        """
        available = len(buffer) - position
        if available < 2:
            return None
        first, second = buffer[position], buffer[position + 1]
        self._check_header(first, second)
        length = second & 0x7F
        start = position + 6
        if length == 126:
            if available < 4:
                return None
            (length,) = struct.unpack_from("!H", buffer, position + 2)
            start += 2
        elif length == 127:
            if available < 10:
                return None
            (length,) = struct.unpack_from("!Q", buffer, position + 2)
            start += 8
        if not first & 0x08 and self._size + length > self._max_message:
            raise FrameError(
                CloseCode.TOO_BIG, f"message over {self._max_message} bytes; this stream takes no input"
            )
        stop = start + length
        return (start, stop) if stop <= len(buffer) else None

    def _check_header(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if opcode not in _KNOWN_OPCODES:
            raise FrameError(CloseCode.PROTOCOL_ERROR, f"unknown opcode {opcode:#x}")
        if not second & MASKED:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "client frames must be masked")
        reserved = first & 0x70
        if reserved and not (reserved == RSV1 and self._deflate and opcode in _MESSAGE_STARTS):
            raise FrameError(CloseCode.PROTOCOL_ERROR, "reserved bits set without a negotiated extension")
        if opcode & 0x08:
            if not first & FIN:
                raise FrameError(CloseCode.PROTOCOL_ERROR, "control frames must not be fragmented")
            if second & 0x7F > MAX_CONTROL_PAYLOAD:
                raise FrameError(CloseCode.PROTOCOL_ERROR, "control frames carry at most 125 bytes")
        elif opcode == FrameOpcode.CONTINUATION:
            if self._opcode is None:
                raise FrameError(CloseCode.PROTOCOL_ERROR, "continuation without a message to continue")
        elif self._opcode is not None:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "new message before the last one ended")

    def _accept(self, first: int, mask: bytes, payload: bytes) -> Incoming | None:
        opcode = first & 0x0F
        payload = apply_mask(payload, mask) if payload else b""
        match opcode:
            case FrameOpcode.PING:
                return Ping(payload)
            case FrameOpcode.PONG:
                return Pong(payload)
            case FrameOpcode.CLOSE:
                return _parse_close(payload)
            case _:
                self._accept_data(first, opcode, payload)
                return None

    def _accept_data(self, first: int, opcode: int, payload: bytes) -> None:
        final = bool(first & FIN)
        if self._opcode is None:
            self._opcode = opcode
            self._compressed = bool(first & RSV1)
        self._size += len(payload)
        # A compressed text cannot be checked without inflating it, which is not worth it for input that is
        # not read.
        if self._opcode == FrameOpcode.TEXT and not self._compressed:
            self._decoder = self._decoder or codecs.getincrementaldecoder("utf-8")()
            try:
                self._decoder.decode(payload, final)
            except UnicodeDecodeError:
                raise FrameError(CloseCode.INVALID_DATA, "text message is not UTF-8") from None
        if final:
            self._opcode = None
            self._decoder = None
            self._size = 0


_KNOWN_OPCODES = frozenset(int(opcode) for opcode in FrameOpcode)
_MESSAGE_STARTS = frozenset((int(FrameOpcode.TEXT), int(FrameOpcode.BINARY)))
_PROTOCOL_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


def _parse_close(payload: bytes) -> CloseFrame:
    if not payload:
        return CloseFrame(None, "")
    if len(payload) == 1:
        raise FrameError(CloseCode.PROTOCOL_ERROR, "close frame of one byte")
    (code,) = struct.unpack_from("!H", payload)
    if code not in _PROTOCOL_CLOSE_CODES and not 3000 <= code < 5000:
        raise FrameError(CloseCode.PROTOCOL_ERROR, f"close code {code} must not be sent")
    try:
        return CloseFrame(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise FrameError(CloseCode.INVALID_DATA, "close reason is not UTF-8") from None
