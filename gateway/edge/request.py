"""One request's head as the edge understood it: checked, and clean of what must not travel on.

One pass over the fields: those that frame or route the message are read, hop-by-hop ones and
those that only the edge may set (identity, priority, deadline, faults, forwarding, trace) are left
out, and the rest is kept in order, duplicates and all, with names in lower case.
"""

from __future__ import annotations

from chassis.deadline import GRPC_HEADER
from chassis.deadline import HEADER as DEADLINE_HEADER
from chassis.errors import BadRequest
from chassis.http.framing import CHUNKED, HOP_BY_HOP, Headers
from chassis.identity import PASSPORT_HEADER
from chassis.telemetry import TRACEPARENT
from gateway.edge.peer import Peer
from gateway.edge.refusals import (
    ExpectationFailed,
    MethodNotAllowed,
    NotImplementedHere,
    VersionNotSupported,
)

FORWARDING = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-server",
        b"x-real-ip",
    }
)
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
LEFT_OUT = (HOP_BY_HOP - {b"trailer"}) | FORWARDING | OURS
WATCHED = LEFT_OUT | READ

_FAULT_MEMBER = b"fi"


class Request:
    """A request's head. `length` is the body's: bytes, or `CHUNKED`.

    `headers` is what travels on and may be edited; `lines` is the forwarding block of the head
    sent on, up to the value of x-forwarded-host, which is `authority`: the Host value as it came.
    `host` is that in lower case and without a port.
    """

    __slots__ = (
        "asks_upgrade",
        "authority",
        "claimed_trace",
        "client",
        "expects",
        "headers",
        "host",
        "is_11",
        "is_trusted",
        "keep_alive",
        "length",
        "lines",
        "method",
        "path",
        "query",
        "target",
        "upgrade",
    )

    def __init__(
        self, method: bytes, target: bytes, version: str, fields: Headers, peer: Peer
    ) -> None:
        self.method = method
        self.is_11 = version == "1.1"
        if not self.is_11 and version != "1.0":
            raise VersionNotSupported(f"HTTP/{version} is not spoken here; use HTTP/1.1")
        if method in _REFUSED_METHODS:
            raise MethodNotAllowed(f"{method.decode()} is not allowed here")
        self.length = 0
        self.keep_alive = self.is_11
        self.expects = False
        self.asks_upgrade = False
        self.upgrade: bytes | None = None
        self.claimed_trace: bytes | None = None
        host = self._read(fields, peer)
        self._locate(target, host, peer)

    def _read(self, fields: Headers, peer: Peer) -> bytes:
        """Sorts the fields; gives the Host value."""
        kept: Headers = []
        noted: Headers = []
        host: bytes | None = None
        has_underscore = False
        for pair in fields:
            name = pair[0]
            if name not in WATCHED:
                kept.append(pair)
                if b"_" in name:
                    has_underscore = True
            elif name == b"host":
                if host is not None:
                    raise BadRequest("there is more than one Host field", code="host")
                host = pair[1]
                kept.append(pair)
            else:
                noted.append(pair)
        if host is None:
            raise BadRequest("there is no Host field", code="host")
        self.headers = kept
        self.is_trusted = peer.is_trusted
        self.client = peer.address
        self.lines = peer.lines
        if noted:
            self._note(noted, peer)
        if has_underscore:
            self._drop_twins()
        return host

    def _note(self, noted: Headers, peer: Peer) -> None:
        """Reads the fields that do not travel on as they are."""
        seen: dict[bytes, bytes] = {}
        for name, value in noted:
            seen[name] = seen[name] + b", " + value if name in seen else value
        if b"content-length" in seen:
            self.length = int(seen[b"content-length"])
        if b"transfer-encoding" in seen:
            self._note_coding(seen[b"transfer-encoding"])
        if b"connection" in seen:
            self._note_connection(seen[b"connection"], seen.get(b"upgrade"))
        if b"expect" in seen:
            self._note_expectation(seen[b"expect"])
        if b"baggage" in seen:
            self._keep_baggage(seen[b"baggage"])
        self.claimed_trace = seen.get(TRACEPARENT)
        if peer.is_trusted and b"x-forwarded-for" in seen:
            proto = seen.get(b"x-forwarded-proto", b"")
            self.client, self.lines = peer.forwarded(seen[b"x-forwarded-for"], proto)

    def _note_coding(self, coding: bytes) -> None:
        if not self.is_11:
            raise BadRequest("transfer-encoding needs HTTP/1.1", code="framing")
        if coding.lower().rpartition(b",")[2].strip() != b"chunked":
            raise BadRequest("a transfer-encoding must end in chunked", code="framing")
        if coding.lower() != b"chunked":
            raise NotImplementedHere("the only transfer-encoding known here is chunked")
        self.length = CHUNKED

    def _note_connection(self, value: bytes, upgrade: bytes | None) -> None:
        options = {option.strip(b" \t") for option in value.lower().split(b",")}
        if b"close" in options:
            self.keep_alive = False
        elif b"keep-alive" in options:
            self.keep_alive = True
        if b"upgrade" in options and upgrade is not None:
            self.asks_upgrade = True
            if self.is_11 and self.length == 0 and upgrade.lower() != b"h2c":
                self.upgrade = upgrade
        named = options - _CONNECTION_OPTIONS
        if named:
            self.headers = [pair for pair in self.headers if pair[0] not in named]

    def _note_expectation(self, value: bytes) -> None:
        if value.lower() != b"100-continue":
            raise ExpectationFailed("the only expectation known here is 100-continue")
        self.expects = self.is_11

    def _keep_baggage(self, value: bytes) -> None:
        """Baggage travels on, but its fault member is ours to sign."""
        members = [member.strip() for member in value.split(b",")]
        kept = [
            member
            for member in members
            if member and member.partition(b"=")[0].strip() != _FAULT_MEMBER
        ]
        if kept:
            self.headers.append((b"baggage", b",".join(kept)))

    def _drop_twins(self) -> None:
        """Drops `a_b` where `a-b` exists or is ours: to CGI-like servers they are one name."""
        names = {name for name, _ in self.headers}
        self.headers = [
            pair
            for pair in self.headers
            if b"_" not in pair[0] or not _has_twin(pair[0].replace(b"_", b"-"), names)
        ]

    def _locate(self, target: bytes, host: bytes, peer: Peer) -> None:
        """Reads the target in its origin, absolute or asterisk form (RFC 9112 section 3.2)."""
        if b"#" in target:
            raise BadRequest("the target has a fragment", code="target")
        self.authority = host
        self.host = peer.host(host)
        if target[:1] != b"/":
            target = self._other_form(target, host)
        self.target = target
        self.path, _, self.query = target.partition(b"?")

    def _other_form(self, target: bytes, host: bytes) -> bytes:
        if target == b"*":
            if self.method != b"OPTIONS":
                raise BadRequest("only OPTIONS may ask for *", code="target")
            return target
        scheme, mark, rest = target.partition(b"://")
        if not mark or scheme.lower() not in (b"http", b"https"):
            raise BadRequest("the target is neither a path nor an http address", code="target")
        cut = min(at for at in (rest.find(b"/"), rest.find(b"?"), len(rest)) if at >= 0)
        if rest[:cut].lower() != host.lower():
            raise BadRequest("the target and the Host field disagree", code="host")
        path = rest[cut:]
        return path if path[:1] == b"/" else b"/" + path


_REFUSED_METHODS = frozenset({b"CONNECT", b"TRACE"})
_CONNECTION_OPTIONS = frozenset({b"", b"close", b"keep-alive", b"upgrade", b"te", b"host"})


def _has_twin(twin: bytes, names: set[bytes]) -> bool:
    return twin in names or twin in WATCHED


def clean_trailers(fields: Headers) -> Headers:
    """Trailer fields that may travel on: none that frames, routes or identifies (RFC 9110 6.5)."""
    return [pair for pair in fields if pair[0] not in WATCHED and pair[0] not in _NEVER_TRAILERS]


_NEVER_TRAILERS = frozenset(
    {b"authorization", b"cache-control", b"content-encoding", b"content-range", b"content-type"}
    | {b"cookie", b"set-cookie", b"trailer", b"www-authenticate", b"max-forwards", b"range"}
)
