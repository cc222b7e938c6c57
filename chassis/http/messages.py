"""What a service hears and says: whole requests, whole answers, and how an answer is written."""

from __future__ import annotations

import http
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from chassis.errors import Faulty, StagedoorError
from chassis.http.framing import Headers
from chassis.http.problems import CONTENT_TYPE, problem
from chassis.http.request import Asked

Pairs = Sequence[tuple[bytes, bytes]]

JSON: Final = b"application/json"

_COMMON: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
)
_REASONS: Final[Mapping[int, bytes]] = {
    status.value: status.phrase.encode() for status in http.HTTPStatus
}


class Reply(msgspec.Struct, frozen=True):
    """An answer that is not simply a value encoded as JSON with the operation's status."""

    body: bytes = b""
    status: int = 200
    content_type: bytes = JSON
    headers: Pairs = ()


class Called(Protocol):
    """What serves one call."""

    @property
    def at_once(self) -> bool:
        """Whether it mostly answers without waiting."""
        ...


@runtime_checkable
class Application(Protocol):
    """Answers whole requests. Header names come in lower case; framing has been checked."""

    async def answer(
        self, method: str, path: str, query: bytes, headers: Headers, body: bytes
    ) -> Reply: ...

    def call_of(self, path: bytes) -> Called | None:
        """What serves the calls to `path`, or None."""
        ...

    def answer_call(self, called: Any, asked: Asked, body: bytes) -> Coroutine[Any, Any, Reply]:
        """`answer` for a call that was recognised whole; `called` is what `call_of` gave."""
        ...

    def refuse(self, failure: StagedoorError) -> Reply:
        """The answer to what could not be read as a request."""
        ...


def told(failure: StagedoorError) -> Reply:
    """The answer that tells `failure`."""
    status, headers, body = problem(failure)
    ours = (b"content-type", b"content-length")
    kept = [(name, value) for name, value in headers if name.lower() not in ours]
    return Reply(body, status, CONTENT_TYPE, kept)


def fields_of(reply: Reply) -> Headers:
    """Every field of the answer's head; 204 has neither a type nor a length."""
    if reply.status == 204:
        return list(reply.headers)
    return [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]


def written(reply: Reply, *, keep: bool = True, body: bool = True) -> bytes:
    """The answer as it goes over the wire; without its body for HEAD.

    `Faulty` when one of its fields would be read as something else.
    """
    if keep and body and reply.status == 200 and not reply.headers and reply.content_type is JSON:
        return _COMMON % (len(reply.body), reply.body)
    fields = fields_of(reply)
    if not keep:
        fields.append((b"connection", b"close"))
    lines = [b"%b: %b\r\n" % pair for pair in fields]
    head = b"".join(lines)
    if head.count(b"\r") != len(lines) or head.count(b"\n") != len(lines):
        raise Faulty("a field of the answer holds a line break")
    start = b"HTTP/1.1 %d %b\r\n" % (reply.status, _REASONS.get(reply.status, b""))
    return b"".join((start, head, b"\r\n", reply.body if body else b""))
