"""A request head's fields: what they say about the message, and what of them travels on.

Hop-by-hop fields, and those that only the edge may set (identity, priority, deadline, faults,
forwarding, trace), are left out; the rest is kept in order, duplicates and all, with names in lower
case. Everything here is a pure function of the fields, so what was read once may be used again for
the same bytes.
"""

from __future__ import annotations

from chassis.deadline import GRPC_HEADER
from chassis.deadline import HEADER as DEADLINE_HEADER
from chassis.errors import BadRequest
from chassis.http.framing import CHUNKED, HOP_BY_HOP, Headers
from chassis.http.load import LOAD_FIELDS
from chassis.identity import PASSPORT_HEADER
from chassis.telemetry import TRACEPARENT
from gateway.edge.forwarded import PREFIX, Told, told
from gateway.edge.peer import bare_host
from gateway.edge.refusals import ExpectationFailed, NotImplementedHere

FORWARDING = frozenset(
    {
        b"client-cert",
        b"client-cert-chain",
        b"forwarded",
        b"true-client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-server",
        b"x-original-forwarded-for",
        b"x-original-url",
        b"x-real-ip",
        b"x-rewrite-url",
    }
)
"""How a request came here, for whom, and for which target: from outside these are mere claims.
Whatever else begins with x-forwarded- goes the same way."""

OURS = frozenset(
    {
        PASSPORT_HEADER,
        DEADLINE_HEADER,
        GRPC_HEADER,
        TRACEPARENT,
        b"tracestate",
        b"x-attempt",
        b"x-fault-context",
        b"x-priority",
        b"x-request-id",
    }
)
"""Set by the edge only; whoever sends them from outside has them taken away."""

READ = frozenset({b"host", b"content-length", b"expect", b"baggage"})
LEFT_OUT = (HOP_BY_HOP - {b"trailer"}) | FORWARDING | OURS | {b"http2-settings"}
WATCHED = LEFT_OUT | READ
ORDINARY = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"authorization",
        b"cache-control",
        b"content-type",
        b"cookie",
        b"if-modified-since",
        b"if-none-match",
        b"origin",
        b"pragma",
        b"range",
        b"referer",
        b"sec-ch-ua",
        b"sec-ch-ua-mobile",
        b"sec-ch-ua-platform",
        b"sec-fetch-dest",
        b"sec-fetch-mode",
        b"sec-fetch-site",
        b"sec-fetch-user",
        b"upgrade-insecure-requests",
        b"user-agent",
    }
)
"""Fields that most requests have, and that need no look but this one."""

_FAULT_MEMBER = b"fi"
_LENGTH_MAXIMUM = (1 << 63) - 1
_LENGTH_DIGITS = 19
_UNDERSCORE = ord("_")
_OTHER_HTTP = frozenset({b"h2", b"h2c", b"http"})
_CONNECTION_OPTIONS = frozenset({b"", b"close", b"keep-alive", b"upgrade", b"te", b"host"})
_NEVER_TRAILERS = frozenset(
    {b"authorization", b"cache-control", b"content-encoding", b"content-range", b"content-type"}
    | {b"cookie", b"set-cookie", b"trailer", b"www-authenticate", b"max-forwards", b"range"}
    | LOAD_FIELDS
)


class Fields:
    """Never changed once read. `length` is the body's: bytes, or `CHUNKED`. With `is_plain`,
    nothing is asked but an answer: there is no body, and the connection stays.

    `pairs` travel on, and `lines` is the same as bytes. `authority` is the Host value as it came,
    `host` that in lower case and without a port. `forwarded` is what the fields say of where the
    request came from, to be believed only of a trusted proxy.
    """

    __slots__ = (
        "_pairs",
        "asks_upgrade",
        "authority",
        "claimed_trace",
        "expects",
        "forwarded",
        "host",
        "is_plain",
        "keep_alive",
        "length",
        "lines",
        "upgrade",
    )

    _pairs: Headers

    def __init__(self, fields: Headers, is_11: bool) -> None:
        self.length = 0
        self.keep_alive = is_11
        self.expects = False
        self.asks_upgrade = False
        self.upgrade: bytes | None = None
        self.claimed_trace: bytes | None = None
        self.forwarded: Told | None = None
        self.authority = self._sort(fields, is_11)
        self.host = bare_host(self.authority)
        self.is_plain = self.keep_alive and not (self.length or self.expects or self.asks_upgrade)
        self.lines = written(self._pairs)

    def __repr__(self) -> str:
        return f"Fields({len(self.pairs)}, host={self.host!r}, length={self.length})"

    @property
    def pairs(self) -> Headers:
        if not self._pairs:
            self._pairs = read(self.lines)
        return self._pairs

    def shrink(self) -> None:
        """Keeps only the lines, for as long as nobody asks for the pairs."""
        self._pairs = []

    def _sort(self, fields: Headers, is_11: bool) -> bytes:
        """Sorts the fields; gives the Host value."""
        kept: Headers = []
        noted: Headers = []
        host: bytes | None = None
        has_underscore = False
        for pair in fields:
            name = pair[0]
            if name in ORDINARY:
                kept.append(pair)
            elif name == b"host":
                if host is not None:
                    raise BadRequest("there is more than one Host field", code="host")
                host = pair[1]
                kept.append(pair)
            elif name in WATCHED:
                noted.append(pair)
            elif not name.startswith(PREFIX):
                kept.append(pair)
                has_underscore |= _UNDERSCORE in name
        if host is None:
            raise BadRequest("there is no Host field", code="host")
        self._pairs = kept
        if noted:
            self._note(noted, is_11)
        if has_underscore:
            self._drop_twins()
        return host

    def _note(self, noted: Headers, is_11: bool) -> None:
        """Reads the fields that do not travel on as they are."""
        seen: dict[bytes, bytes] = {}
        for name, value in noted:
            seen[name] = seen[name] + b", " + value if name in seen else value
        if b"content-length" in seen:
            self.length = _length(seen[b"content-length"])
        if b"transfer-encoding" in seen:
            self._note_coding(seen[b"transfer-encoding"], is_11)
        if b"baggage" in seen:
            self._keep_baggage(seen[b"baggage"])
        if b"connection" in seen:
            self._note_connection(seen[b"connection"], seen.get(b"upgrade"), is_11)
        if b"expect" in seen:
            self._note_expectation(seen[b"expect"], is_11)
        self.claimed_trace = seen.get(TRACEPARENT)
        self.forwarded = told(seen)

    def _note_coding(self, coding: bytes, is_11: bool) -> None:
        if not is_11:
            raise BadRequest("transfer-encoding needs HTTP/1.1", code="framing")
        if coding.lower().rpartition(b",")[2].strip() != b"chunked":
            raise BadRequest("a transfer-encoding must end in chunked", code="framing")
        if coding.lower() != b"chunked":
            raise NotImplementedHere("the only transfer-encoding known here is chunked")
        self.length = CHUNKED

    def _note_connection(self, value: bytes, upgrade: bytes | None, is_11: bool) -> None:
        if value == b"keep-alive":
            self.keep_alive = True
            return
        options = {option.strip(b" \t") for option in value.lower().split(b",")}
        if b"close" in options:
            self.keep_alive = False
        elif b"keep-alive" in options:
            self.keep_alive = True
        if b"upgrade" in options and upgrade is not None:
            self.asks_upgrade = True
            if is_11 and self.length == 0 and _may_upgrade_to(upgrade):
                self.upgrade = upgrade
        named = options - _CONNECTION_OPTIONS
        if named:
            self._pairs = [pair for pair in self._pairs if pair[0] not in named]

    def _note_expectation(self, value: bytes, is_11: bool) -> None:
        if value.lower() != b"100-continue":
            raise ExpectationFailed("the only expectation known here is 100-continue")
        self.expects = is_11

    def _keep_baggage(self, value: bytes) -> None:
        """Baggage travels on, but its fault member is ours to sign."""
        members = [member.strip() for member in value.split(b",")]
        kept = [
            member
            for member in members
            if member and member.partition(b"=")[0].strip() != _FAULT_MEMBER
        ]
        if kept:
            self._pairs.append((b"baggage", b",".join(kept)))

    def _drop_twins(self) -> None:
        """Drops `a_b` where `a-b` exists or is ours: to CGI-like servers they are one name."""
        names = {name for name, _ in self._pairs}
        self._pairs = [
            pair
            for pair in self._pairs
            if _UNDERSCORE not in pair[0] or not _has_twin(pair[0].replace(b"_", b"-"), names)
        ]


def written(pairs: Headers) -> bytes:
    """The fields as lines of a head, each ended."""
    return b"\r\n".join(map(b": ".join, pairs)) + b"\r\n" if pairs else b""


def read(lines: bytes) -> Headers:
    """The reverse of `written`."""
    parts = [line.partition(b": ") for line in lines.split(b"\r\n")]
    return [(name, value) for name, _, value in parts[:-1]]


def _has_twin(twin: bytes, names: set[bytes]) -> bool:
    return twin in names or twin in WATCHED or twin.startswith(PREFIX)


def _length(value: bytes) -> int:
    """Of a Content-Length that the parser has found to be digits."""
    length = int(value) if len(value) <= _LENGTH_DIGITS else _LENGTH_MAXIMUM + 1
    if length > _LENGTH_MAXIMUM:
        raise BadRequest("the content-length is out of all reason", code="framing")
    return length


def _may_upgrade_to(upgrade: bytes) -> bool:
    """Whether nothing among the protocols is HTTP by another name, which would carry requests past
    the rules."""
    names = {name.strip(b" \t").partition(b"/")[0].lower() for name in upgrade.split(b",")}
    return not names & _OTHER_HTTP


def clean_trailers(fields: Headers) -> Headers:
    """Trailer fields that may travel on, of any case: none that frames, routes or identifies (RFC
    9110 6.5), with underscores in place of hyphens neither."""
    return [pair for pair in fields if _may_trail(pair[0].lower().replace(b"_", b"-"))]


def _may_trail(name: bytes) -> bool:
    return not (name in WATCHED or name in _NEVER_TRAILERS or name.startswith(PREFIX))
