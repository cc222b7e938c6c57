"""The rules document, typed: what may be written, field by field.

Times are seconds, sizes are bytes. Unknown fields are faults. The published JSON Schema is
generated from these classes, so a docstring here is the documentation a reader of the schema gets.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Bytes = Annotated[int, Meta(ge=0)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Weight = Annotated[int, Meta(ge=0, le=1_000_000)]
Status = Annotated[int, Meta(ge=200, le=599)]
Method = Annotated[str, Meta(pattern=r"^[!#$%&'*+.^_`|~0-9A-Z-]+\Z")]
Priority = Literal["user", "browse", "prefetch", "telemetry"]
Device = Literal["tv", "console", "phone", "tablet", "desktop", "bot", "other"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "Ed25519"
]


class Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every part of the document has in common: frozen, and no unknown fields."""


class Value(Part, frozen=True):
    """A condition on one value; everything given must hold. `present: false` wants it absent."""

    exact: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    contains: str | None = None
    regex: str | None = None
    one_of: tuple[str, ...] = ()
    present: bool | None = None


class Window(Part, frozen=True):
    """A time window: between two instants, and/or from `start` to `end` o'clock on some days.

    `after`/`before` are RFC 3339 instants, `start`/`end` are `HH:MM` in `timezone`; a window
    whose end is not after its start runs over midnight.
    """

    after: str | None = None
    before: str | None = None
    start: str | None = None
    end: str | None = None
    days: tuple[Day, ...] = ()
    timezone: str = "UTC"


class Sticky(Part, frozen=True):
    """The same callers, always: `percent` of the values of `by`, spread evenly by a salted hash.

    `by` is `client`, `header:NAME`, `cookie:NAME` or `claim:NAME`; a caller without it is out.
    """

    percent: Percent
    by: str = "client"
    salt: str = ""


class Matcher(Part, frozen=True):
    """Conditions on a request; everything given must hold.

    At most one of `path` (exact), `path_prefix` (whole segments), `path_template` (`/a/{b}`) and
    `path_regex` (anchored at both ends). A host is exact or `*.` before at least one label.
    Inside `all`, `any` and `not`, host and path restrict but do not rank.
    """

    hosts: tuple[str, ...] = ()
    path: str | None = None
    path_prefix: str | None = None
    path_template: str | None = None
    path_regex: str | None = None
    methods: tuple[Method, ...] = ()
    headers: dict[str, str | Value] = {}
    query: dict[str, str | Value] = {}
    cookies: dict[str, str | Value] = {}
    clients: tuple[str, ...] = ()
    claims: dict[str, str | Value] = {}
    devices: tuple[Device, ...] = ()
    window: Window | None = None
    sticky: Sticky | None = None
    all: tuple[Matcher, ...] = ()
    any: tuple[Matcher, ...] = ()
    not_: Matcher | None = msgspec.field(default=None, name="not")


class Redirect(Part, frozen=True):
    """Answer with a redirect. `location` may use `{path}`, `{query}`, `{host}` and captures."""

    location: str
    status: Literal[301, 302, 303, 307, 308] = 308


class Reply(Part, frozen=True):
    """Answer directly, without any cluster."""

    status: Status = 200
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = {}


class Rewrite(Part, frozen=True):
    """What the cluster is asked for instead: at most one of `path`, `prefix` and `template`.

    `path` replaces the whole path, `prefix` replaces the matched `path_prefix`, `template` is a
    path with `{captures}` of the rule's `path_template` or `path_regex`. `host` replaces Host.
    """

    path: str | None = None
    prefix: str | None = None
    template: str | None = None
    host: str | None = None


class HeaderEdits(Part, frozen=True):
    """Header changes, in this order: `remove`, `set` (replaces every line), `add` (one more)."""

    set: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: tuple[str, ...] = ()


class Retry(Part, frozen=True):
    """How many attempts in all, and which answers are worth another one. A rule without `retry` has
    the one that is written here.

    Another attempt goes to another instance. What provably was not processed is tried again, of any
    method; after a reset, the attempt's timeout or one of `statuses` only what may be repeated:
    idempotent methods, and requests with an Idempotency-Key. All retries and hedges of a cluster
    together are at most a fifth of its requests.
    """

    attempts: Annotated[int, Meta(ge=1, le=5)] = 2
    statuses: tuple[Annotated[int, Meta(ge=400, le=599)], ...] = (502, 503, 504)
    attempt_timeout_s: Seconds | None = None


class Hedge(Part, frozen=True):
    """A second attempt on another instance when the first takes longer than most: the first good
    answer wins, the other attempt is cancelled. Only of what may be repeated, out of the budget of
    the retries, and never while the gateway sheds.

    It begins when the first attempt has taken longer than `quantile` of those before it, and
    `least_s`; as long as too few are known there is none.
    """

    quantile: Annotated[float, Meta(ge=0.5, le=0.999)] = 0.95
    least_s: Annotated[float, Meta(ge=0.001, le=86_400)] = 0.005


class Mirror(Part, frozen=True):
    """A copy of some requests to another cluster; answers are dropped, never retried."""

    cluster: Name
    percent: Percent = 100


class Cors(Part, frozen=True):
    """Cross-origin answers; an origin is exact (`https://a.example`) or `*`."""

    origins: tuple[str, ...]
    methods: tuple[Method, ...] = ("GET", "HEAD", "POST")
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    credentials: bool = False
    max_age_s: Annotated[int, Meta(ge=0, le=86_400)] = 600


class Rule(Part, frozen=True):
    """One routing rule: a match, one action, and what holds on the way.

    `match` may be a list: any of them. The action is exactly one of `forward` (a cluster, or
    clusters with weights), `redirect` and `reply`. `precedence` overrides the usual order: the
    higher goes first. `priority` is the class that shedding and limits go by.
    """

    name: Name
    match: Matcher | tuple[Matcher, ...] = Matcher()
    precedence: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    forward: Name | dict[Name, Weight] | None = None
    redirect: Redirect | None = None
    reply: Reply | None = None
    rewrite: Rewrite | None = None
    request_headers: HeaderEdits = HeaderEdits()
    response_headers: HeaderEdits = HeaderEdits()
    timeout_s: Seconds | None = None
    retry: Retry | None = None
    hedge: Hedge | None = None
    mirror: Mirror | None = None
    cors: Cors | None = None
    body_limit: Bytes | None = None
    priority: Priority = "browse"
    auth: Name | None = None
    scopes: tuple[str, ...] = ()
    rate_limit: Name | None = None
    filters: tuple[Name, ...] = ()

    @property
    def matchers(self) -> tuple[Matcher, ...]:
        return self.match if isinstance(self.match, tuple) else (self.match,)

    @property
    def weights(self) -> dict[str, int]:
        """The clusters and their shares; empty when the rule forwards to none."""
        if isinstance(self.forward, str):
            return {self.forward: 1}
        return dict(self.forward or {})


class HealthCheck(Part, frozen=True):
    """A GET of `path` at each instance every `interval_s`: an answer from 200 to 399 within
    `timeout_s` is good. `unhealthy_after` bad ones in a row leave an instance out, `healthy_after`
    good ones let it back; when more than half are out, all are used.
    """

    path: Annotated[str, Meta(pattern=r"^/[!-\"$-~]*\Z")] = "/"
    host: str | None = None
    interval_s: Annotated[float, Meta(ge=0.05, le=3600)] = 5.0
    timeout_s: Annotated[float, Meta(ge=0.01, le=60)] = 1.0
    unhealthy_after: Annotated[int, Meta(ge=1, le=100)] = 3
    healthy_after: Annotated[int, Meta(ge=1, le=100)] = 2


class Cluster(Part, frozen=True):
    """A named group of equal servers: a `service` of the registry, a list of `instances`, or all
    addresses of a name in `dns` (both host:port).

    `idle_s` is how long the pool keeps an idle connection; it must be shorter than
    `instance_idle_s`, after which the instances themselves close one. An instance that joins the
    others gets its whole part of the requests after `slow_start_s`.
    """

    service: Name | None = None
    instances: tuple[str, ...] = ()
    dns: str | None = None
    connect_timeout_s: Seconds = 0.5
    timeout_s: Seconds = 15.0
    idle_s: Seconds = 4.0
    instance_idle_s: Seconds = 5.0
    connections: Annotated[int, Meta(ge=1, le=65_535)] = 256
    slow_start_s: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    health: HealthCheck | None = None


class JwksSource(Part, frozen=True):
    """Where the issuer's public keys are: a file, a URL, or a path of a cluster."""

    file: str | None = None
    url: str | None = None
    cluster: Name | None = None
    path: str = "/.well-known/jwks.json"


class ClientCertificate(Part, frozen=True):
    """A client certificate that the listener has verified (`client_ca`). Where `subjects` (as in
    RFC 4514: `CN=probe,O=Example`) or `names` (common or alternative ones) are listed, it must have
    one of them. `scopes` are what it may do.
    """

    subjects: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()


class AuthPolicy(Part, frozen=True):
    """What a bearer token must be: signed by these keys, from this issuer, for this audience.

    Or, with `certificate` alone, which client certificate is a credential.
    """

    issuer: str = ""
    audience: str = ""
    jwks: JwksSource | None = None
    certificate: ClientCertificate | None = None
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256", "EdDSA")
    leeway_s: Annotated[float, Meta(ge=0, le=300)] = 30.0


class RateLimit(Part, frozen=True):
    """A token bucket: `per_s` refilled, up to `burst`, each request costs `cost`.

    One bucket a value of `key`: `client`, `account`, `device`, `api_key` or `header:NAME`.
    """

    per_s: Annotated[float, Meta(gt=0)]
    burst: Annotated[int, Meta(ge=1, le=1 << 31)]
    cost: Annotated[int, Meta(ge=1, le=1 << 31)] = 1
    key: str = "client"


class Filter(Part, frozen=True):
    """A filter by the name of its class in the filters folder, with the options it declares."""

    filter: Name
    options: dict[str, Any] = {}


class Golden(Part, frozen=True):
    """A request that must find its rule whenever the document changes; `rule: null` wants a 404."""

    request: str
    rule: Name | None
    headers: dict[str, str] = {}
    claims: dict[str, Any] = {}
    client: str = "127.0.0.1"


class Document(Part, frozen=True):
    """The whole of it. `golden` requests are replayed before a changed document takes over."""

    clusters: dict[Name, Cluster] = {}
    rules: tuple[Rule, ...] = ()
    filters: dict[Name, Filter] = {}
    auth: dict[Name, AuthPolicy] = {}
    limits: dict[Name, RateLimit] = {}
    golden: tuple[Golden, ...] = ()


def json_schema() -> dict[str, Any]:
    """The published JSON Schema (2020-12) of the document."""
    written = msgspec.json.encode(msgspec.json.schema(Document))
    schema = msgspec.json.decode(written.replace(rb"\\Z", b"$"))  # Python's word for the end
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
