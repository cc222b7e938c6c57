"""Failures as RFC 9457 problem responses, and back: the one place that does either.

A problem body is `{"type": "about:blank", "title", "status", "code", "detail", …members}`; `code`
is stable and what callers should look at. A failure outside our tree, or one of our own faults,
is told as a bare 500: its text is for our log and not for a caller.
"""

from __future__ import annotations

import http
import math
from typing import Any, Final

import msgspec

from chassis.contracts.wire import NOT_DECODED
from chassis.errors import (
    Faulty,
    OriginGarbled,
    OriginStatus,
    PeerRefusal,
    StagedoorError,
    Unauthenticated,
)
from chassis.http import framing
from chassis.http.framing import Headers

UNTOLD: Final = "peer_refused"
"""The code of a 4xx answer that tells none."""

CONTENT_TYPE: Final = b"application/problem+json"
_OWN_FIELDS: Final = frozenset({"type", "title", "status", "code", "detail", "instance"})
_MAX_DETAIL: Final = 2_000


def problem(failure: BaseException) -> tuple[int, Headers, bytes]:
    """The answer that tells `failure`: status, headers (with content-length) and body."""
    if not isinstance(failure, StagedoorError) or isinstance(failure, Faulty):
        return _answer(500, {"code": "internal"}, [])
    fields: dict[str, Any] = {"code": failure.code}
    if detail := failure.public or failure.detail:
        fields["detail"] = detail[:_MAX_DETAIL]
    fields |= {name: value for name, value in failure.members.items() if name not in _OWN_FIELDS}
    return _answer(failure.status, fields, _extra_headers(failure))


def _answer(status: int, fields: dict[str, Any], extra: Headers) -> tuple[int, Headers, bytes]:
    body = msgspec.json.encode(
        {"type": "about:blank", "title": _title(status), "status": status, **fields}
    )
    headers = [(b"content-type", CONTENT_TYPE), (b"content-length", b"%d" % len(body)), *extra]
    return status, headers, body


def _title(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Client Error" if status < 500 else "Server Error"


def _extra_headers(failure: StagedoorError) -> Headers:
    extra: Headers = []
    if failure.retry_after_s is not None:
        extra.append((b"retry-after", b"%d" % max(1, math.ceil(failure.retry_after_s))))
    if isinstance(failure, Unauthenticated):
        extra.append((b"www-authenticate", b"Bearer"))
    return extra


def failure_from(status: int, headers: Headers, body: bytes) -> StagedoorError:
    """The failure that an answer tells: `PeerRefusal` below 500, else `OriginStatus`.

    Where the body is a problem its code, detail and members are kept. An answer below 400 is no
    failure and means that the peer and we disagree on what was asked: `OriginGarbled`.
    """
    if status < 400:
        return OriginGarbled(f"answered {status} where a result or a problem was expected")
    fields = _problem_fields(headers, body)
    code = _text(fields.get("code"))
    detail = _text(fields.get("detail")) or _text(fields.get("title"))
    members = {name: value for name, value in fields.items() if name not in _OWN_FIELDS}
    retry_after_s = parse_retry_after(framing.value(headers, b"retry-after"))
    if status < 500:
        return PeerRefusal(
            status, code or UNTOLD, detail, retry_after_s=retry_after_s, members=members
        )
    failure = OriginStatus(status, detail, retry_after_s=retry_after_s)
    failure.code = code or failure.code
    failure.members = members
    return failure


def _problem_fields(headers: Headers, body: bytes) -> dict[str, Any]:
    kind = framing.value(headers, b"content-type") or b""
    if kind.partition(b";")[0].strip().lower() != CONTENT_TYPE:
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except NOT_DECODED:
        return {}


def _text(value: object) -> str:
    return value[:_MAX_DETAIL] if isinstance(value, str) else ""


def parse_retry_after(value: bytes | None) -> float | None:
    """Seconds in a Retry-After value; None without one, and for dates, which need agreed clocks."""
    if value is None or not value.isdigit() or len(value) > 9:
        return None
    return float(value)
