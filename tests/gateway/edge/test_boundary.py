from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.boundary import Boundary


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    cut: list[bytes] = []
    for size in sizes:
        cut.append(data[:size])
        data = data[size:]
    return [piece for piece in (*cut, data) if piece]


def read(arrived: list[bytes]) -> list[bytes]:
    """The stream as runs that each end with an empty line, but for the last."""
    boundary = Boundary()
    runs, run = [], b""
    for piece in arrived:
        data = piece
        while data:
            end = boundary.end(data)
            assert 0 < end <= len(data)
            run += data[:end]
            data = data[end:]
            if run.endswith(b"\r\n\r\n"):
                runs.append(run)
                run = b""
    return [*runs, run] if run else runs


def test_a_head_is_cut_from_the_request_that_follows_it() -> None:
    boundary = Boundary()
    assert boundary.end(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2") == 27


def test_all_is_read_when_there_is_no_empty_line() -> None:
    assert Boundary().end(b"GET / HTTP/1.1\r\n") == 16


@given(
    st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"xyz"]), max_size=12),
    st.lists(st.integers(1, 5), max_size=20),
)
def test_the_cuts_do_not_depend_on_how_the_bytes_arrive(
    parts: list[bytes], sizes: list[int]
) -> None:
    whole = b"".join(parts)
    assert read(pieces(whole, sizes)) == read([whole] if whole else [])
