"""The Consul adapter (stub: the real one follows)."""

from __future__ import annotations
