"""Rules that no request can ever reach, because another always goes first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.rules import hosts, paths, predicates
from gateway.rules.hosts import HostSpec
from gateway.rules.lint_rule import Finding
from gateway.rules.model import Document, Matcher, Rule
from gateway.rules.paths import PathSpec

MAX_COMPARED = 1_000
"""How many higher-precedence matches a match is compared with."""


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """What one alternative of a rule claims for itself on one host."""

    index: int
    rule: Rule
    host: HostSpec
    path: PathSpec
    conditions: frozenset[str]
    key: tuple[Any, ...]
    matcher: Matcher = field(repr=False)


def unreachable(document: Document) -> Iterator[Finding]:
    """One finding a rule whose every alternative is shadowed; the first shadow is named."""
    claims = [claim for index, rule in enumerate(document.rules) for claim in _claims(index, rule)]
    claims.sort(key=lambda claim: claim.key)
    shadows: dict[int, list[Claim | None]] = defaultdict(list)
    seen = _Seen()
    for claim in claims:
        shadows[claim.index].append(seen.shadow(claim))
        seen.add(claim)
    for index, found in sorted(shadows.items()):
        first = found[0]
        if first is not None and all(found):
            name = document.rules[index].name
            reason = f"rule {name!r} can never be reached: {first.rule.name!r} always goes first"
            yield Finding(("rules", index), reason)


def _claims(index: int, rule: Rule) -> Iterator[Claim]:
    for matcher in rule.matchers:
        path = predicates.path_spec(matcher)
        residual = (not matcher.methods, -len(matcher.headers), -len(matcher.query), index)
        for text in matcher.hosts or ("*",):
            host = hosts.host_spec(text)
            key = (-rule.precedence, host.rank, path.rank, residual)
            yield Claim(index, rule, host, path, _conditions(matcher), key, matcher)


def _conditions(matcher: Matcher) -> frozenset[str]:
    """Everything beyond host, path and methods, in one spelling each; more is narrower."""
    said: set[str] = set()
    for kind, value in msgspec.to_builtins(matcher).items():
        if kind in ("hosts", "methods") or kind.startswith("path"):
            continue
        items = value.items() if isinstance(value, dict) else [("", value)]
        said |= {f"{kind} {name} {msgspec.json.encode(item).decode()}" for name, item in items}
    return frozenset(said)


class _Seen:
    """The claims that go first, indexed so that few have to be compared."""

    def __init__(self) -> None:
        self._same: dict[tuple[str, object], list[Claim]] = defaultdict(list)
        self._higher: list[Claim] = []

    def add(self, claim: Claim) -> None:
        self._same[claim.host.text, claim.path.shape].append(claim)
        if claim.rule.precedence > 0 and len(self._higher) < MAX_COMPARED:
            self._higher.append(claim)

    def shadow(self, claim: Claim) -> Claim | None:
        """An earlier claim that takes everything this one would get."""
        for earlier in self._candidates(claim):
            if earlier.index != claim.index and _covers(earlier, claim):
                return earlier
        return None

    def _candidates(self, claim: Claim) -> Iterator[Claim]:
        host = claim.host.text
        yield from self._same.get((host, claim.path.shape), ())
        if claim.path.kind == "regex":
            for size in range(len(claim.path.literal) + 1):
                start = b"".join(b"/" + segment for segment in claim.path.literal[:size])
                yield from self._same.get((host, ("prefix", start.decode())), ())
        for earlier in self._higher:
            if earlier.rule.precedence > claim.rule.precedence:
                yield earlier


def _covers(earlier: Claim, later: Claim) -> bool:
    ours, theirs = earlier.matcher.methods, later.matcher.methods
    methods = not ours or (bool(theirs) and set(theirs) <= set(ours))
    narrower = earlier.conditions <= later.conditions
    return methods and narrower and _host_covers(earlier, later) and _path_covers(earlier, later)


def _host_covers(earlier: Claim, later: Claim) -> bool:
    if later.host.exact is not None:
        return earlier.host.fits(later.host.exact)
    if earlier.host.exact is not None:
        return False
    return (later.host.suffix or b"").endswith(earlier.host.suffix or b"")


def _path_covers(earlier: Claim, later: Claim) -> bool:
    ours, theirs = earlier.path, later.path
    if theirs.kind == "exact":
        path = paths.normalise(theirs.text.encode())
        return path is not None and ours.fits(path)
    if ours.kind == "prefix":
        return theirs.literal[: len(ours.literal)] == ours.literal
    return ours.shape == theirs.shape
