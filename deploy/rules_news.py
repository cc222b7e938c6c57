"""Says in the terminal what became of an edit of the rules: whoever edits a file reads no log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from chassis.clock import Clock
from chassis.contracts.wire import NOT_DECODED
from chassis.deadline import Deadline
from chassis.discovery import Instance
from chassis.errors import StagedoorError
from chassis.http.client import Client
from gateway.rules.build import content_hash
from gateway.rules.live import Counters
from gateway.rules.source import Fault
from gateway.rules.watch import FileWatch

_LOOK_S = 0.25
_PATIENCE_S = 5.0


class Told(Struct, frozen=True):
    """What a gateway's admin port tells of its rules: which document serves, and which is the
    newest that was taken or refused."""

    version: int
    content_hash: str
    judged_hash: str
    counters: Counters
    findings: tuple[Fault, ...] = ()


def news(before: Told, after: Told) -> str | None:
    """What there is to say; None while the gateway has judged nothing new."""
    if (after.judged_hash, after.counters) == (before.judged_hash, before.counters):
        return None
    is_live = after.judged_hash == after.content_hash
    verdict = "live" if is_live else "refused, the last good version goes on"
    said = f"rules: {verdict} (version {after.version})"
    return "\n".join([said, *(f"  {finding}" for finding in after.findings)])


class RulesNews:
    """Follows `file`, and asks one gateway what it made of each edit."""

    def __init__(
        self,
        file: Path,
        gateways: Callable[[], Sequence[Instance]],
        client: Client,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self._watch = FileWatch(file, clock, self._follow)
        self._gateways = gateways
        self._client = client
        self._clock = clock
        self._say = say
        self._known: Told | None = None

    async def run(self) -> None:
        with suppress(OSError):
            self._watch.read()  # what stands there already is no edit
        self._known = await self._ask()
        await self._watch.run()

    async def _follow(self, text: bytes) -> None:
        """Asks until this very text has been judged; what is heard of others is said, too."""
        wanted = content_hash(text)
        deadline = Deadline.after(self._clock, _PATIENCE_S)
        while not deadline.expired():
            told = await self._ask()
            if told is not None:
                self._hear(told)
                if told.judged_hash == wanted:
                    return
            await self._clock.sleep(_LOOK_S)

    def _hear(self, told: Told) -> None:
        known, self._known = self._known, told
        said = news(known, told) if known is not None else None
        if said is not None:
            self._say(said)

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
