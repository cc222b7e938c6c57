"""Whether a rule is the same in two snapshots, with everything that it names. Pure."""

from __future__ import annotations

from gateway.rules.match import Snapshot
from gateway.rules.route import Route


def is_same(route: Route, old: Snapshot, new: Snapshot) -> bool:
    """Whether `route` of `old` is a rule of `new` too: the rule as written, and its clusters,
    authentication policy, rate limit and filters."""
    other = new.routes.get(route.name)
    if other is None or other.rule != route.rule or other.rate_limit != route.rate_limit:
        return False
    if route.auth is not None and old.auth[route.auth] != new.auth.get(route.auth):
        return False
    return all(old.clusters[name] == new.clusters.get(name) for name in route.clusters) and all(
        old.filters[name] == new.filters.get(name) for name in route.filters
    )
