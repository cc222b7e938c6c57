"""Keeps systems that share one Consul apart: each has a prefix made of its state directory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

_SCHEMES = ("consul", "consuls")
_DIGITS = 8


def apart(url: str, home: Path) -> str:
    """The registry's URL for the system in `home`; one that says a prefix, also none, keeps it."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or "prefix=" in parts.query:
        return url
    digest = hashlib.sha256(str(home.resolve()).encode()).hexdigest()
    query = f"{parts.query}&" if parts.query else ""
    return parts._replace(query=f"{query}prefix=stagedoor-{digest[:_DIGITS]}").geturl()
