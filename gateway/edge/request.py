"""One request's head, read: where it goes, and from whom it comes."""

from __future__ import annotations

from chassis.errors import BadRequest
from chassis.http.framing import Headers
from gateway.edge.fields import Fields
from gateway.edge.peer import Peer

CONNECT = b"CONNECT"


class Request:
    """What the rules and the filters see of a request. Targets are raw, byte for byte; a CONNECT,
    which asks for no path, has the path `/`.

    `headers` travel on and may be edited; as long as nobody asks for them, `own_headers` is None
    and what `fields` has ready is sent as it is. `client` is the peer's address, or what a trusted
    peer said; `forwarding` are the lines that tell the instance so, up to the value of
    x-forwarded-host, which is `asked_host`.
    """

    __slots__ = (
        "asked_host",
        "client",
        "fields",
        "forwarding",
        "host",
        "is_11",
        "is_trusted",
        "method",
        "own_headers",
        "path",
        "query",
        "target",
    )

    def __init__(
        self, method: bytes, target: bytes, is_11: bool, fields: Fields, peer: Peer
    ) -> None:
        self.method = method
        self.target = target
        self.is_11 = is_11
        self.fields = fields
        self.host = fields.host
        self.is_trusted = peer.is_trusted
        self.client = peer.address
        self.forwarding = peer.lines
        self.asked_host = authority = fields.authority
        if fields.forwarded is not None and peer.is_trusted:
            told = peer.forwarded(fields.forwarded, authority)
            self.client, self.forwarding, self.asked_host = told
        self.own_headers: Headers | None = None
        if method == CONNECT:
            self.path, self.query = b"/", b""
        else:
            self.path, _, self.query = target.partition(b"?")

    @property
    def headers(self) -> Headers:
        """A list of this request's own."""
        if self.own_headers is None:
            self.own_headers = list(self.fields.pairs)
        return self.own_headers

    @headers.setter
    def headers(self, headers: Headers) -> None:
        self.own_headers = headers


def switches(method: bytes, status: int) -> bool:
    """Whether what follows such an answer is a tunnel's (RFC 9110 sections 9.3.6 and 15.2.2)."""
    return status == 101 or (status < 300 and method == CONNECT)


def check_connect(fields: Fields, *, is_11: bool) -> None:
    """`BadRequest` for a CONNECT that is not just a head."""
    if not is_11:
        raise BadRequest("CONNECT needs HTTP/1.1", code="framing")
    if fields.length or fields.asks_upgrade:
        raise BadRequest("CONNECT has neither a body nor an upgrade", code="framing")


def origin_form(method: bytes, target: bytes, authority: bytes) -> bytes:
    """The target of an origin, absolute or asterisk form (RFC 9112 section 3.2) as a path, or `*`;
    that of CONNECT, `host:port`, as it is.

    `BadRequest` when it is none of them, or disagrees with the Host value.
    """
    if method == CONNECT:
        return _authority(target, authority)
    if b"#" in target:
        raise BadRequest("the target has a fragment", code="target")
    if target[:1] == b"/":
        return target
    if target == b"*":
        if method != b"OPTIONS":
            raise BadRequest("only OPTIONS may ask for *", code="target")
        return target
    return _path_of(target, authority)


def _authority(target: bytes, authority: bytes) -> bytes:
    port = target.rpartition(b":")[2]
    if not port.isdigit() or not 0 < int(port[:6]) < 65_536:
        raise BadRequest("CONNECT asks for host:port", code="target")
    if target.lower() != authority.lower():
        raise BadRequest("the target and the Host field disagree", code="host")
    return target


def _path_of(target: bytes, authority: bytes) -> bytes:
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise BadRequest("the target is neither a path nor an http address", code="target")
    cut = min(at for at in (rest.find(b"/"), rest.find(b"?"), len(rest)) if at >= 0)
    if rest[:cut].lower() != authority.lower():
        raise BadRequest("the target and the Host field disagree", code="host")
    path = rest[cut:]
    return path if path[:1] == b"/" else b"/" + path
