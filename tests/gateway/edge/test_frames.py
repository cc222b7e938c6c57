"""Where WebSocket frames end, whatever the pieces they come in."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

from gateway.edge.frames import Frames, close_frame

OPCODES = st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG])
SIZES = st.one_of(st.integers(0, 130), st.sampled_from([65_535, 65_536, 70_000]))


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Frames as a real library writes them."""
    return [
        Frame(opcode, b"x" * (size % 126 if opcode >= Opcode.CLOSE else size)).serialize(
            mask=draw(st.booleans())
        )
        for opcode, size in draw(st.lists(st.tuples(OPCODES, SIZES), max_size=5))
    ]


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(streams(), st.lists(st.integers(0, 1 << 20), max_size=12))
def test_it_is_between_two_frames_exactly_where_one_ends(
    frames: list[bytes], cuts: list[int]
) -> None:
    ends = {0}
    for frame in frames:
        ends.add(max(ends) + len(frame))
    followed, at = Frames(), 0
    for piece in pieces(b"".join(frames), cuts):
        followed.feed(piece)
        at += len(piece)
        assert followed.is_between is (at in ends)
    assert not followed.said_close


@given(streams(), st.integers(0, 1 << 20), st.lists(st.integers(0, 1 << 20), max_size=8))
def test_the_end_of_the_frame_that_has_begun_is_found(
    frames: list[bytes], cut: int, cuts: list[int]
) -> None:
    data = b"".join(frames)
    ends = [0]
    for frame in frames:
        ends.append(ends[-1] + len(frame))
    begun = cut % (len(data) + 1)
    followed = Frames()
    followed.feed(data[:begun])
    wanted = min(end for end in ends if end >= begun)
    at = begun
    for piece in pieces(data[begun:], cuts):
        if followed.is_between:
            break
        at += followed.end(piece)
    assert at == wanted and followed.is_between


def test_a_close_frame_is_noticed() -> None:
    for mask in (False, True):
        whole, told = Frames(), Frames()
        frame = Frame(Opcode.CLOSE, Close(1000, "bye").serialize()).serialize(mask=mask)
        whole.feed(Frame(Opcode.TEXT, b"hello").serialize(mask=mask) + frame)
        assert whole.said_close and whole.is_between
        told.feed(frame[:1])
        assert told.end(frame[1:] + b"more") == len(frame) - 1
        assert told.said_close


@given(st.lists(st.binary(max_size=40)))
def test_what_is_no_frame_does_no_harm(garbage: list[bytes]) -> None:
    followed = Frames()
    for piece in garbage:
        followed.feed(piece)
        assert followed.end(piece) <= len(piece)


def test_our_close_frame_is_one_a_library_reads() -> None:
    written = close_frame(1012, b"changed")
    assert written == Frame(Opcode.CLOSE, Close(1012, "changed").serialize()).serialize(mask=False)
    assert len(close_frame(1001, b"x" * 200)) == 127
