"""What licence keeps: the secret of all content keys. What it reaches: outside licence servers."""

from __future__ import annotations

from typing import Protocol

import msgspec

from chassis.clock import Clock
from chassis.contracts.common import DrmSystem
from chassis.deadline import Deadline
from chassis.errors import OriginStatus, Unprocessable
from chassis.http.client import Client
from chassis.storage import Tables
from chassis.storage.secrets import Secret, kept_secret
from microservices.licence.model import Terms

ROWS = (Secret,)
TERMS_HEADER = b"x-licence-terms"
ANSWER_LIMIT = 1 << 20


class LicenceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`STAGEDOOR_LICENCE_…`: where the licence servers of other DRM systems are; empty: none."""

    widevine_url: str = ""
    playready_url: str = ""

    def url(self, system: DrmSystem) -> str:
        return {"widevine": self.widevine_url, "playready": self.playready_url}.get(system, "")


class LicenceStore:
    """Its tables; the secret is read once and then held."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    async def content_secret(self) -> bytes:
        return await kept_secret(self._tables, "content", self._clock)


class KeyServers(Protocol):
    """Licence servers of DRM systems whose messages we cannot read."""

    def check(self, system: DrmSystem) -> None:
        """`Unprocessable` when there is no server for `system`."""
        ...

    async def ask(self, system: DrmSystem, body: bytes, terms: Terms, deadline: Deadline) -> bytes:
        """The server's licence for a device's challenge, under these terms."""
        ...


class HttpKeyServers:
    """Passes challenges on by POST; the terms go along as JSON in `x-licence-terms`."""

    def __init__(self, settings: LicenceSettings, client: Client) -> None:
        self._settings = settings
        self._client = client

    def check(self, system: DrmSystem) -> None:
        if system != "clearkey" and not self._settings.url(system):
            raise Unprocessable(
                f"there is no {system} licence server here: use clearkey, or set"
                f" STAGEDOOR_LICENCE_{system.upper()}_URL",
                code="device_unsupported",
            )

    async def ask(self, system: DrmSystem, body: bytes, terms: Terms, deadline: Deadline) -> bytes:
        self.check(system)
        headers = [
            (b"content-type", b"application/octet-stream"),
            (TERMS_HEADER, msgspec.json.encode(terms)),
        ]
        answer = await self._client.request(
            "POST",
            self._settings.url(system),
            headers=headers,
            body=body,
            deadline=deadline,
            limit=ANSWER_LIMIT,
        )
        if answer.status != 200:
            raise OriginStatus(answer.status, f"the {system} server answered {answer.status}")
        return answer.body
