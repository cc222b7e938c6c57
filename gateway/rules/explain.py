"""Which rule wins a request, and why each near miss did not; the same code as the hot path."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from gateway.rules.lint_rule import is_address
from gateway.rules.match import Entry, Snapshot, is_listed_only
from gateway.rules.model import Golden
from gateway.rules.paths import normalise
from gateway.rules.route import Headers, Route, View

MAX_MISSES = 10
_STEPS = ("precedence", "host", "path", "method", "number of headers", "number of query conditions")


class Request(Struct):
    """A request written down, for explaining and for golden requests."""

    method: bytes
    host: bytes
    path: bytes
    query: bytes
    headers: Headers
    client: str = "127.0.0.1"
    claims: Mapping[str, object] | None = None


class Miss(Struct, frozen=True):
    """A rule that did not win, and every reason."""

    rule: str
    reasons: list[str]


class Explanation(Struct, frozen=True):
    """`winner` is None when nothing matched (404)."""

    request: str
    version: int
    winner: str | None
    because: str
    action: str
    clusters: list[str]
    needs_claims: bool
    misses: list[Miss]
    attempts: str = ""
    """In words, which further attempts there may be, also where the rule says nothing of them."""


def request_of(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    client: str = "127.0.0.1",
    claims: Mapping[str, object] | None = None,
) -> Request:
    """A request from its words; `url` may leave scheme and host out, that of a CONNECT is
    `host:port`. `ValueError` for what no client could ask."""
    if method == "CONNECT":
        url = _authority(url)
    parts = urlsplit(url, allow_fragments=False)
    lines = [(n.lower().encode(), v.encode()) for n, v in (headers or {}).items()]
    given = next((value.decode() for name, value in lines if name == b"host"), "localhost")
    host = urlsplit(f"//{parts.netloc or given}").hostname or "localhost"
    return Request(
        method=method.encode(),
        host=(f"[{host}]" if ":" in host else host).encode(),
        path=(parts.path or "/").encode(),
        query=parts.query.encode(),
        headers=lines,
        client=client,
        claims=claims,
    )


def _authority(place: str) -> str:
    """As a URL without scheme and path."""
    if not is_address(place):
        raise ValueError("CONNECT asks for host:port")
    return f"//{place}"


def explain(snapshot: Snapshot, request: Request) -> Explanation:
    """The winner is what `Snapshot.match` says; the rest is said of every other entry."""
    found = snapshot.match(request)
    path = normalise(request.path)
    misses = [(entry.misses(request, path), entry) for entry in snapshot.entries]
    fitting = sorted(
        (e for reasons, e in misses if not reasons), key=lambda e: full_key(e, request)
    )
    winner = fitting[0] if fitting and found is not None else None
    route = found.route if found is not None else None
    return Explanation(
        request=f"{request.method.decode()} {request.host.decode()}{request.path.decode()}",
        version=snapshot.version,
        winner=route.name if route else None,
        because=_because(winner, path),
        action=_action(winner, request.method),
        clusters=list(route.clusters) if route else [],
        needs_claims=found.needs_claims if found is not None else False,
        misses=_near(misses, winner, request),
        attempts=_attempts(route) if route is not None and route.clusters else "",
    )


def full_key(entry: Entry, view: View) -> tuple[object, ...]:
    """Everything that ranks an entry for this request, the first to differ decides."""
    rank = min(host.rank for host in entry.hosts if host.fits(view.host))
    return (-entry.route.rule.precedence, rank, entry.path.rank, *entry.key)


def _because(winner: Entry | None, path: bytes | None) -> str:
    if path is None:
        return "the path can be read in more than one way, so no rule is trusted to fit it"
    if winner is None:
        return "no rule fits"
    conditions = [str(winner.path), *(p.says for p in winner.predicates)]
    if winner.methods:
        conditions.append(f"method {' or '.join(winner.methods)}")
    hosts = " or ".join(map(str, winner.hosts))
    return f"host {hosts}, {', '.join(conditions)}"


def _action(winner: Entry | None, method: bytes) -> str:
    if winner is None:
        return "405" if is_listed_only(method) else "404"
    rule = winner.route.rule
    return "redirect" if rule.redirect else "reply" if rule.reply else "forward"


def _attempts(route: Route) -> str:
    retry, hedge = route.retry, route.hedge
    if retry.attempts == 1:
        said = "one attempt"
    else:
        statuses = ", ".join(map(str, retry.statuses)) or "no status"
        said = f"up to {retry.attempts} attempts, again on {statuses}"
    if retry.attempt_timeout_s is not None:
        said += f", {retry.attempt_timeout_s:g} s each"
    if hedge is not None:
        said += f"; a second one at once when the first is slower than {hedge.quantile:.1%}"
    return said


def _near(
    misses: list[tuple[list[str], Entry]], winner: Entry | None, request: Request
) -> list[Miss]:
    """Rules that fit but lost, then those that only one or two things kept away."""
    said: dict[str, list[str]] = {}
    ordered = sorted(misses, key=lambda miss: (_distance(miss[0], miss[1], request), miss[1].key))
    for reasons, entry in ordered:
        if winner is not None and entry.route is winner.route:
            continue
        if len(reasons) <= 2 and entry.route.name not in said:
            said[entry.route.name] = reasons or [_lost(entry, winner, request)]
    return [Miss(rule, reasons) for rule, reasons in list(said.items())[:MAX_MISSES]]


def _distance(reasons: list[str], entry: Entry, request: Request) -> tuple[int, int]:
    """Fewest reasons first; among those, the path with the most segments in common."""
    ours = tuple((normalise(request.path) or b"/").split(b"/")[1:])
    common = 0
    for mine, theirs in zip(ours, entry.path.literal, strict=False):
        if mine != theirs:
            break
        common += 1
    return len(reasons), -common


def _lost(entry: Entry, winner: Entry | None, request: Request) -> str:
    if winner is None:
        return "fits"
    ours, theirs = full_key(entry, request), full_key(winner, request)
    step = next((name for name, a, b in zip(_STEPS, ours, theirs, strict=False) if a != b), "order")
    return f"fits, but {winner.route.name!r} goes first by {step}"


def replay(snapshot: Snapshot, golden: Golden) -> str | None:
    """Why a golden request does not find its rule; None when it does."""
    method, _, url = golden.request.partition(" ")
    request = request_of(
        method, url, headers=golden.headers, client=golden.client, claims=golden.claims
    )
    found = snapshot.match(request)
    got = found.route.name if found is not None else None
    if got == golden.rule:
        return None
    wanted = f"rule {golden.rule!r}" if golden.rule else "no rule"
    return f"golden request {golden.request!r} must find {wanted}, but finds {got or 'none'!r}"


def as_json(explanation: Explanation) -> bytes:
    return msgspec.json.encode(explanation)
