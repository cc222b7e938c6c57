"""Says in the terminal what became of an edit of the rules: whoever edits a file reads no log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from chassis.clock import Clock
from chassis.contracts.wire import NOT_DECODED
from chassis.deadline import Deadline
from chassis.discovery import Instance
from chassis.errors import StagedoorError
from chassis.http.client import Client
from gateway.rules.live import Counters
from gateway.rules.source import Fault

_LOOK_S = 0.25
_PATIENCE_S = 5.0


class Told(Struct, frozen=True):
    """What a gateway's admin port tells of its rules."""

    version: int
    counters: Counters
    findings: tuple[Fault, ...] = ()


def news(before: Told, after: Told) -> str | None:
    """What there is to say; None while the gateway has taken nothing new up."""
    if after.counters == before.counters:
        return None
    refused = after.counters.refused != before.counters.refused
    verdict = "refused, the last good version goes on" if refused else "live"
    said = f"rules: {verdict} (version {after.version})"
    return "\n".join([said, *(f"  {finding}" for finding in after.findings)])


class RulesNews:
    """Looks whether `file` has changed, then asks one gateway what it made of it."""

    def __init__(
        self,
        file: Path,
        gateways: Callable[[], Sequence[Instance]],
        client: Client,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self._file = file
        self._gateways = gateways
        self._client = client
        self._clock = clock
        self._say = say

    async def run(self) -> None:
        seen, known = self._stamp(), await self._ask()
        while True:
            await self._clock.sleep(_LOOK_S)
            if (stamp := self._stamp()) != seen:
                seen = stamp
                known = await self._follow(known)

    async def _follow(self, known: Told | None) -> Told | None:
        """Asks until the edit has been taken up; an edit that changes nothing is not."""
        give_up = self._clock.monotonic() + _PATIENCE_S
        while self._clock.monotonic() < give_up:
            told = await self._ask()
            if known is None:
                return told
            if told is not None and (said := news(known, told)) is not None:
                self._say(said)
                return told
            await self._clock.sleep(_LOOK_S)
        return known

    async def _ask(self) -> Told | None:
        for gateway in sorted(self._gateways(), key=lambda one: one.id)[:1]:
            try:
                url = f"http://{gateway.meta['admin']}/snapshot"
                soon = Deadline.after(self._clock, 1.0)
                answer = await self._client.request("GET", url, deadline=soon)
                return msgspec.json.decode(answer.body, type=Told)
            except (StagedoorError, *NOT_DECODED):
                return None
        return None

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size
