"""How a request finds its route: host map, segment trie, a few residual predicates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.rules.model import AuthPolicy, Cluster, Filter, RateLimit
from gateway.rules.route import Match, Route, View


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One immutable, validated, versioned set of routes; a request keeps its first."""

    version: int
    content_hash: str
    routes: tuple[Route, ...]
    clusters: Mapping[str, Cluster]
    auth: Mapping[str, AuthPolicy]
    filters: Mapping[str, Filter]
    limits: Mapping[str, RateLimit]

    def match(self, view: View) -> Match | None:
        """The route that wins, or None (404)."""
        raise NotImplementedError
