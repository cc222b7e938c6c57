"""A linted document to a snapshot: rules become entries, entries find their place in the tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from chassis.clock import Clock
from gateway.rules import hosts, paths, predicates
from gateway.rules.match import (
    LISTED,
    Entry,
    HostMap,
    Key,
    Node,
    Snapshot,
    Table,
    sort_tables,
)
from gateway.rules.model import (
    Document,
    HeaderEdits,
    Matcher,
    Redirect,
    Reply,
    Retry,
    Rewrite,
    Rule,
)
from gateway.rules.paths import PathSpec
from gateway.rules.route import Edits, RedirectAction, ReplyAction, Route, View, as_is


def compile_document(
    document: Document, clock: Clock, *, version: int, content_hash: str, source: bytes
) -> Snapshot:
    """The snapshot of a document without faults; time windows read `clock` as requests come."""
    routes = {rule.name: compile_route(rule, document) for rule in document.rules}
    entries = tuple(
        entry
        for order, rule in enumerate(document.rules)
        for entry in compile_entries(rule, routes[rule.name], order, clock)
    )
    return Snapshot(
        version=version,
        content_hash=content_hash,
        document=document,
        source=source,
        entries=entries,
        tiers=build_tiers(entries),
        listed=build_tiers(tuple(entry for entry in entries if LISTED & {*entry.methods})),
        routes=routes,
        clusters=document.clusters,
        auth=document.auth,
        filters=document.filters,
        limits=document.limits,
    )


def compile_entries(rule: Rule, route: Route, order: int, clock: Clock) -> Iterator[Entry]:
    """One entry an alternative of the rule's match."""
    for matcher in rule.matchers:
        yield Entry(
            route,
            tuple(hosts.host_spec(host) for host in matcher.hosts) or (hosts.ANY,),
            predicates.path_spec(matcher),
            matcher.methods,
            predicates.conditions(matcher, clock),
            _residual_key(matcher, order),
        )


def _residual_key(matcher: Matcher, order: int) -> Key:
    return (not matcher.methods, -len(matcher.headers), -len(matcher.query), order)


def build_tiers(entries: tuple[Entry, ...]) -> tuple[HostMap, ...]:
    """The tables, one host map a value of `precedence`."""
    tiers: dict[int, HostMap] = {}
    tables: list[Table] = []
    for entry in entries:
        tier = tiers.setdefault(entry.route.rule.precedence, HostMap())
        for host in entry.hosts:
            table = _table(tier, host, tables)
            _place(table, entry)
    sort_tables(tables)
    return tuple(tiers[precedence] for precedence in sorted(tiers, reverse=True))


def _table(tier: HostMap, host: hosts.HostSpec, tables: list[Table]) -> Table:
    group = tier.exact if host.exact is not None else tier.suffixes
    name = host.exact if host.exact is not None else host.suffix
    found = tier.any if name is None else group.get(name)
    if found is None:
        found = Table()
        tables.append(found)
        if name is None:
            tier.any = found
        else:
            group[name] = found
    return found


def _place(table: Table, entry: Entry) -> None:
    path = entry.path
    if path.kind == "exact":
        table.exact.setdefault(path.text.encode(), []).append(entry)
    elif path.kind == "template":
        table.has_templates = True
        _leaf(table.root, path).templates.append(entry)
    elif path.kind == "prefix":
        _descend(table.root, path.literal).prefixes.append(entry)
    else:
        table.has_regexes = True
        _descend(table.root, path.literal).regexes.append(entry)


def _descend(node: Node, literal: tuple[bytes, ...]) -> Node:
    for segment in literal:
        node = node.children.setdefault(segment, Node())
    return node


def _leaf(node: Node, path: PathSpec) -> Node:
    for segment, (_, literal, shape) in zip(path.segments, path.segment_ranks, strict=True):
        if isinstance(segment, bytes):
            node = node.children.setdefault(segment, Node())
        elif segment is None:
            node.variable = node.variable or Node()
            node = node.variable
        else:
            node = _mixed(node, (literal, shape), segment)
    return node


def _mixed(node: Node, rank: tuple[int, str], pattern: re.Pattern[bytes]) -> Node:
    for known, _, child in node.mixed:
        if known == rank:
            return child
    child = Node()
    node.mixed.append((rank, pattern, child))
    return child


def compile_route(rule: Rule, document: Document) -> Route:
    """Everything of a rule but its match."""
    clusters, shares = _shares(rule.weights)
    path = predicates.path_spec(rule.matchers[0])
    return Route(
        name=rule.name,
        rule=rule,
        clusters=clusters,
        shares=shares,
        redirect=_redirect(rule.redirect, rule) if rule.redirect else None,
        reply=_reply(rule.reply) if rule.reply else None,
        rewrite=_rewriter(rule.rewrite, path) if rule.rewrite else as_is,
        host=rule.rewrite.host.encode() if rule.rewrite and rule.rewrite.host else None,
        request_headers=_edits(rule.request_headers),
        response_headers=_edits(rule.response_headers),
        timeout_s=rule.timeout_s,
        retry=rule.retry or Retry(),
        hedge=rule.hedge,
        mirror=rule.mirror,
        cors=rule.cors,
        body_limit=rule.body_limit,
        priority=rule.priority,
        auth=rule.auth,
        scopes=rule.scopes,
        rate_limit=document.limits[rule.rate_limit] if rule.rate_limit else None,
        rate_limit_name=rule.rate_limit,
        filters=rule.filters,
    )


def _shares(weights: dict[str, int]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    total = sum(weights.values())
    used = {name: weight for name, weight in weights.items() if weight}
    shares: list[float] = []
    for weight in used.values():
        shares.append((shares[-1] if shares else 0.0) + weight / total)
    return tuple(used), tuple(shares)


def _edits(edits: HeaderEdits) -> Edits:
    return Edits(
        set=tuple((n.lower().encode(), v.encode()) for n, v in edits.set.items()),
        add=tuple((n.lower().encode(), v.encode()) for n, v in edits.add.items()),
        remove=frozenset(name.lower().encode() for name in edits.remove),
    )


def _reply(reply: Reply) -> ReplyAction:
    headers = [(b"content-type", reply.content_type.encode())]
    headers += [(n.lower().encode(), v.encode()) for n, v in reply.headers.items()]
    return ReplyAction(reply.status, tuple(headers), reply.body.encode())


def _rewriter(rewrite: Rewrite, path: PathSpec) -> Callable[[bytes], bytes]:
    if rewrite.path is not None:
        fixed = rewrite.path.encode()
        return lambda _: fixed
    if rewrite.prefix is not None:
        return _prefix_rewriter(b"/".join((b"", *path.literal)), rewrite.prefix.encode())
    if rewrite.template is not None:
        return _template_rewriter(rewrite.template, path)
    return as_is


def _prefix_rewriter(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """`/a` -> `/b`: `/a/x` becomes `/b/x`, `/a` becomes `/b`.

    Dot segments are resolved first, so that none leads out of the new prefix.
    """
    new = new.rstrip(b"/")

    def rewrite(raw: bytes) -> bytes:
        if paths.has_dots(raw) or not (raw == old or raw.startswith(old + b"/")):
            raw = paths.normalise(raw) or raw
        return new + raw[len(old) :] or b"/"

    return rewrite


def _template_rewriter(template: str, path: PathSpec) -> Callable[[bytes], bytes]:
    def rewrite(raw: bytes) -> bytes:
        captures = path.capture(raw)
        return paths.fill(template, {name: captures.get(name, b"") for name in path.captures})

    return rewrite


def _redirect(redirect: Redirect, rule: Rule) -> RedirectAction:
    """A location on this host stays on it: `//elsewhere` in a path must not become another host."""
    specs = [predicates.path_spec(matcher) for matcher in rule.matchers]
    local = redirect.location.startswith(("/", "{path}"))

    def location(view: View) -> bytes:
        path = paths.normalise(view.path) or b"/"
        spec = next((spec for spec in specs if spec.fits(path)), specs[0])
        query = b"?" + view.query if view.query else b""
        known = {"path": view.path, "query": query, "host": view.host}
        written = paths.fill(redirect.location, known | spec.capture(view.path))
        return b"/" + written.lstrip(b"/\\") if local else written

    return RedirectAction(redirect.status, location)
