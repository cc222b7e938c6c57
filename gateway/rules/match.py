"""How a request finds its route: host map, segment trie, a few residual predicates.

Everything that depends on the number of rules is a dictionary lookup: the host, the exact path,
each segment. What is left (method, headers, query and so on) is tested entry by entry, the more
specific first, on the few entries that share a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.rules.hosts import HostSpec
from gateway.rules.model import AuthPolicy, Cluster, Document, Filter, RateLimit
from gateway.rules.paths import PathSpec, normalise
from gateway.rules.predicates import Predicate
from gateway.rules.route import Match, Route, View

Key = tuple[Any, ...]

_HOSTS_KEPT = 1_024
LISTED = frozenset({"CONNECT", "TRACE"})
"""Methods only for rules that list them: one leads anywhere that an instance can reach, the other
tells whoever asks what the fields of a request became."""
_LISTED = frozenset(method.encode() for method in LISTED)


class Entry:
    """One alternative of one rule: what must hold, and the match to give."""

    __slots__ = (
        "_claim_tests",
        "_match",
        "_methods",
        "_provisional",
        "_tests",
        "always",
        "hosts",
        "key",
        "methods",
        "path",
        "predicates",
        "route",
    )

    def __init__(
        self,
        route: Route,
        hosts: tuple[HostSpec, ...],
        path: PathSpec,
        methods: tuple[str, ...],
        predicates: tuple[Predicate, ...],
        key: Key,
    ) -> None:
        self.route = route
        self.hosts = hosts
        self.path = path
        self.methods = methods
        self.predicates = predicates
        self.key = key
        """Sorts entries of the same host and path: methods, headers, query, then order."""
        self._methods = frozenset(method.encode() for method in methods)
        self._tests = tuple(p.test for p in predicates if not p.claims)
        self._claim_tests = tuple(p.test for p in predicates if p.claims)
        self._match = Match(route)
        self.always = None if methods or predicates else self._match
        """The match of an entry that asks for nothing beyond host and path."""
        self._provisional = Match(route, needs_claims=True)

    def admits(self, view: View) -> Match | None:
        """The match when everything beyond host and path holds."""
        if self._methods and view.method not in self._methods:
            return None
        for test in self._tests:
            if not test(view):
                return None
        return self._with_claims(view) if self._claim_tests else self._match

    def _with_claims(self, view: View) -> Match | None:
        if getattr(view, "claims", None) is None:
            return self._provisional
        return self._match if all(test(view) for test in self._claim_tests) else None

    def misses(self, view: View, path: bytes | None) -> list[str]:
        """In words, everything that keeps this entry from the request."""
        reasons = []
        if not any(host.fits(view.host) for host in self.hosts):
            reasons.append(f"host is not {' or '.join(map(str, self.hosts))}")
        if path is None or not self.path.fits(path):
            reasons.append(f"not {self.path}")
        if self._methods and view.method not in self._methods:
            reasons.append(f"method is not {' or '.join(self.methods)}")
        elif not self._methods and is_listed_only(view.method):
            reasons.append(f"{view.method.decode()} is only for rules that list it")
        known = getattr(view, "claims", None) is not None
        tested = (p for p in self.predicates if known or not p.claims)
        return reasons + [f"not {p.says}" for p in tested if not p.test(view)]

    def __repr__(self) -> str:
        return f"Entry({self.route.name}: {self.path})"


@dataclass(slots=True)
class Node:
    """One place in the segment trie; lists are sorted, the more specific first."""

    children: dict[bytes, Node] = field(default_factory=dict)
    mixed: list[tuple[tuple[int, str], re.Pattern[bytes], Node]] = field(default_factory=list)
    variable: Node | None = None
    prefixes: list[Entry] = field(default_factory=list)
    templates: list[Entry] = field(default_factory=list)
    regexes: list[Entry] = field(default_factory=list)


@dataclass(slots=True)
class Table:
    """All entries of one host: exact paths, and a trie of segments for the others."""

    exact: dict[bytes, list[Entry]] = field(default_factory=dict)
    root: Node = field(default_factory=Node)
    has_templates: bool = False
    has_regexes: bool = False

    def find(self, view: View, path: bytes) -> Match | None:
        """Exact, then template, then the longest prefix, then expressions."""
        exact = self.exact.get(path)
        if exact is not None and (found := _first(exact, view)):
            return found
        root = self.root
        passed = [root]
        if root.children or self.has_templates:
            segments = path.split(b"/")
            if self.has_templates and (found := _template(root, segments, 1, view)):
                return found
            passed = _walk(root, segments)
        for node in reversed(passed):
            for entry in node.prefixes:
                if found := entry.always or entry.admits(view):
                    return found
        return _expression(passed, path, view) if self.has_regexes else None


def _walk(node: Node, segments: list[bytes]) -> list[Node]:
    """The nodes along the literal segments, as far as there are any."""
    passed = [node]
    for at in range(1, len(segments)):
        child = node.children.get(segments[at])
        if child is None:
            break
        passed.append(child)
        node = child
    return passed


def _template(node: Node, segments: list[bytes], at: int, view: View) -> Match | None:
    """Depth first, literal before mix before capture: so the first that admits ranks first."""
    if at == len(segments):
        return _first(node.templates, view)
    segment = segments[at]
    child = node.children.get(segment)
    if child is not None and (found := _template(child, segments, at + 1, view)):
        return found
    for _, pattern, mixed in node.mixed:
        if pattern.match(segment) and (found := _template(mixed, segments, at + 1, view)):
            return found
    if node.variable is not None and segment:
        return _template(node.variable, segments, at + 1, view)
    return None


def _first(entries: list[Entry], view: View) -> Match | None:
    for entry in entries:
        if found := entry.always or entry.admits(view):
            return found
    return None


def _expression(passed: list[Node], path: bytes, view: View) -> Match | None:
    entries = [entry for node in passed for entry in node.regexes if entry.path.fits(path)]
    entries.sort(key=_key)
    return _first(entries, view)


def _key(entry: Entry) -> Key:
    return entry.key


@dataclass(slots=True)
class HostMap:
    """The tables by host: exact, wildcard by its suffix, any."""

    exact: dict[bytes, Table] = field(default_factory=dict)
    suffixes: dict[bytes, Table] = field(default_factory=dict)
    any: Table | None = None

    def tables(self, host: bytes) -> Iterator[Table]:
        """Those that fit, the most specific first."""
        if table := self.exact.get(host):
            yield table
        dot = host.find(b".", 1)
        while dot != -1:
            if table := self.suffixes.get(host[dot:]):
                yield table
            dot = host.find(b".", dot + 1)
        if self.any is not None:
            yield self.any


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One immutable, validated, versioned set of routes; a request keeps its first."""

    version: int
    content_hash: str
    document: Document
    source: bytes
    """The document as it was written."""
    entries: tuple[Entry, ...]
    tiers: tuple[HostMap, ...]
    """One a value of `precedence`, the highest first; nearly always one."""
    listed: tuple[HostMap, ...]
    """The same of the entries that list one of `LISTED`."""
    routes: Mapping[str, Route]
    clusters: Mapping[str, Cluster]
    auth: Mapping[str, AuthPolicy]
    filters: Mapping[str, Filter]
    limits: Mapping[str, RateLimit]
    _tables: dict[bytes, tuple[Table, ...]] = field(default_factory=dict, compare=False, repr=False)
    """By host, as they were found for the hosts that were asked for."""

    def match(self, view: View) -> Match | None:
        """The route that wins, or None (404)."""
        path = normalise(view.path)
        if path is None:
            return None
        tables = self._tables.get(view.host)
        if view.method in _LISTED:
            tables = tuple(table for tier in self.listed for table in tier.tables(view.host))
        elif tables is None:
            tables = self._find_tables(view.host)
        for table in tables:
            if found := table.find(view, path):
                return found
        return None

    def _find_tables(self, host: bytes) -> tuple[Table, ...]:
        found = tuple(table for tier in self.tiers for table in tier.tables(host))
        if len(self._tables) < _HOSTS_KEPT:
            self._tables[host] = found
        return found

    def __repr__(self) -> str:
        return f"Snapshot({self.version}, {self.content_hash[:12]}, {len(self.routes)} rules)"


def is_listed_only(method: bytes) -> bool:
    """Whether the method is only for rules that list it."""
    return method in _LISTED


def sort_tables(tables: Sequence[Table]) -> None:
    """Puts every list of the tables into the order in which it is tried."""
    pending: list[Node] = []
    for table in tables:
        for entries in table.exact.values():
            entries.sort(key=_key)
        pending.append(table.root)
    while pending:
        node = pending.pop()
        for entries in (node.prefixes, node.templates, node.regexes):
            entries.sort(key=_key)
        node.mixed.sort(key=lambda branch: branch[0])
        pending += [*node.children.values(), *(branch[2] for branch in node.mixed)]
        pending += [node.variable] if node.variable is not None else []
