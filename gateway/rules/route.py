"""What a rule compiles to: everything the exchange asks of it, ready as bytes and numbers."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.rules.model import Cors, Hedge, Mirror, Priority, RateLimit, Retry, Rule

Headers = list[tuple[bytes, bytes]]


class View(Protocol):
    """What of a request the rules can see.

    An object may also have `claims: Mapping[str, object] | None`, None until a credential was
    verified (and `{}` when there is none): see `Match.needs_claims`.
    """

    method: bytes
    host: bytes
    """Lower-cased, without port."""
    path: bytes
    """Raw, before `?`."""
    query: bytes
    headers: Headers
    """Names lower-cased; order and duplicates kept."""
    client: str


@dataclass(frozen=True, slots=True)
class Edits:
    """Header changes as bytes; false when there are none, so that the straight path skips them."""

    set: tuple[tuple[bytes, bytes], ...] = ()
    add: tuple[tuple[bytes, bytes], ...] = ()
    remove: frozenset[bytes] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.set or self.add or self.remove)

    def apply(self, headers: Headers) -> Headers:
        """Another list: without `remove` and the old lines of `set`, then `set`, then `add`."""
        gone = self.remove.union(name for name, _ in self.set)
        kept = [pair for pair in headers if pair[0].lower() not in gone]
        return [*kept, *self.set, *self.add]


@dataclass(frozen=True, slots=True)
class RedirectAction:
    """A redirect; `location` writes the header's value for this request."""

    status: int
    location: Callable[[View], bytes]


@dataclass(frozen=True, slots=True)
class ReplyAction:
    """A direct answer: status, headers (content-type first, no content-length) and body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def as_is(path: bytes) -> bytes:
    """The rewrite of a rule that has none."""
    return path


@dataclass(frozen=True, slots=True)
class Route:
    """One compiled rule. `rewrite` takes and gives a raw path; `host` replaces Host when not None.

    `auth` names a policy of the snapshot: None is public, anything else denies by default.
    """

    name: str
    rule: Rule
    clusters: tuple[str, ...] = ()
    """The clusters with a share, in the order of the rule."""
    shares: tuple[float, ...] = ()
    """Their cumulative shares, rising to 1."""
    redirect: RedirectAction | None = None
    reply: ReplyAction | None = None
    rewrite: Callable[[bytes], bytes] = as_is
    host: bytes | None = None
    request_headers: Edits = field(default_factory=Edits)
    response_headers: Edits = field(default_factory=Edits)
    timeout_s: float | None = None
    retry: Retry = field(default_factory=Retry)
    hedge: Hedge | None = None
    mirror: Mirror | None = None
    cors: Cors | None = None
    body_limit: int | None = None
    priority: Priority = "browse"
    auth: str | None = None
    scopes: tuple[str, ...] = ()
    rate_limit: RateLimit | None = None
    rate_limit_name: str | None = None
    filters: tuple[str, ...] = ()

    def choose(self, r: float) -> str | None:
        """The cluster for `r`, uniform in [0, 1); None when the rule forwards to none."""
        if len(self.clusters) < 2:
            return self.clusters[0] if self.clusters else None
        return self.clusters[min(bisect.bisect_right(self.shares, r), len(self.clusters) - 1)]


@dataclass(frozen=True, slots=True)
class Match:
    """The route a request found.

    With `needs_claims`, a condition on verified claims was taken as met because the view has none
    yet: verify the credential by `route.auth`, set `view.claims`, and match once more.
    """

    route: Route
    needs_claims: bool = False


def describe(route: Route) -> dict[str, Any]:
    """A route for the admin API."""
    action = "redirect" if route.redirect else "reply" if route.reply else "forward"
    return {"rule": route.name, "action": action, "clusters": list(route.clusters)}
