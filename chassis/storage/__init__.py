"""Where rows and objects live: one port each, and `open_tables` / `open_objects` by URL."""

from __future__ import annotations

from chassis.storage.objects import ObjectInfo, Objects, open_objects
from chassis.storage.tables import Tables, open_tables

__all__ = ["ObjectInfo", "Objects", "Tables", "open_objects", "open_tables"]
