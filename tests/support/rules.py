"""Snapshots from a few lines of YAML, and requests in words."""

from __future__ import annotations

import textwrap

from chassis.clock import Clock, ManualClock
from gateway.rules.build import build, check
from gateway.rules.explain import Request, request_of
from gateway.rules.match import Snapshot

CLUSTERS = "clusters: {a: {service: a}, b: {service: b}}\n"


def snapshot_of(text: str, clock: Clock | None = None) -> Snapshot:
    """Compiles `text` (with clusters a and b when it names none of its own)."""
    snapshot, _ = build(_document(text), "rules.yaml", clock or ManualClock(), version=1)
    return snapshot


def findings_of(text: str) -> list[str]:
    """Everything found in `text`, as it would be said."""
    _, findings = check(_document(text), "rules.yaml")
    return [str(finding) for finding in findings]


def winner(snapshot: Snapshot, request: str | Request) -> str | None:
    """The name of the rule that wins `METHOD URL`."""
    if isinstance(request, str):
        method, _, url = request.partition(" ")
        request = request_of(method, url)
    found = snapshot.match(request)
    return found.route.name if found is not None else None


def _document(text: str) -> bytes:
    text = textwrap.dedent(text)
    return (text if "clusters:" in text else CLUSTERS + text).encode()
