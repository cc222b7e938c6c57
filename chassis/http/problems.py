"""Failures as RFC 9457 problem responses, and back: the one place that does either.

STUB: the shape is settled, the behaviour is being written.
"""

from __future__ import annotations

from chassis.errors import StagedoorError
from chassis.http.framing import Headers


def problem(failure: BaseException) -> tuple[int, Headers, bytes]:
    """The answer that tells `failure`: status, headers (content-type, content-length, retry-after…), body."""
    raise NotImplementedError


def failure_from(status: int, headers: Headers, body: bytes) -> StagedoorError:
    """The failure that an answer of 400 or above tells; the code is the peer's when it is a problem."""
    raise NotImplementedError
