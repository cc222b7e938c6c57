"""What manifest keeps: the secret that it shares with the CDNs, to sign where segments lie."""

from __future__ import annotations

from chassis.clock import Clock
from chassis.storage import Tables
from chassis.storage.secrets import Secret, kept_secret

ROWS = (Secret,)


class ManifestStore:
    """Its tables; the secret is read once and then held."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    async def cdn_secret(self) -> bytes:
        return await kept_secret(self._tables, "cdn", self._clock)
