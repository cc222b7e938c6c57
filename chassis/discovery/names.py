"""Instances by DNS: each address of a name is one. Asked as a registry is, so that a `Directory`
can follow a name: what it was last known to mean is kept while it cannot be resolved, or means
nothing all at once.

The system's resolver does not say how long an answer holds, so a name is resolved again and again;
nor can it be told to stop, so of each name there is one look-up under way at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from chassis.clock import Clock
from chassis.discovery.lookup import addresses
from chassis.discovery.registry import DEFAULT_WAIT_S, Instance
from chassis.errors import StoreUnavailable

REFRESH_S = 5.0
"""Between two looks at one name, whatever came of the first."""
PATIENCE_S = 10.0

Resolve = Callable[[str, int], Awaitable[Collection[str]]]
"""The addresses of a host; `OSError` or `UnicodeError` when it has none or nobody can tell."""
_Look = asyncio.Future[Collection[str]]


class Names:
    """Answers for services that are `host:port`; instances have the address as their id."""

    def __init__(
        self, clock: Clock, resolve: Resolve = addresses, *, refresh_s: float = REFRESH_S
    ) -> None:
        self._clock = clock
        self._resolve = resolve
        self._refresh_s = refresh_s
        self._answers: dict[str, tuple[int, list[Instance]]] = {}
        self._looks: dict[str, _Look] = {}
        self._due: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"Names({sorted(self._answers)})"

    async def instances(
        self, service: str, *, index: int = 0, wait_s: float = DEFAULT_WAIT_S
    ) -> tuple[int, list[Instance]]:
        """The name's addresses, ordered; with the `index` of an answer, as soon as they differ from
        it or `wait_s` has passed. `StoreUnavailable` when the name cannot be resolved.

        Only the first look at a name is at once, whoever asks."""
        until = self._clock.monotonic() + wait_s
        answer = await self._look(service)
        while answer[0] == index and self._clock.monotonic() < until:
            answer = await self._look(service)
        return answer

    async def _look(self, service: str) -> tuple[int, list[Instance]]:
        if (left := self._due.get(service, 0.0) - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)
        try:
            return self._learn(service, await self._found(service))
        finally:
            self._due[service] = self._clock.monotonic() + self._refresh_s

    def _learn(self, service: str, found: Collection[str]) -> tuple[int, list[Instance]]:
        host, port = _parts(service)
        instances = sorted(
            (_instance(host, address, port) for address in found), key=lambda one: one.id
        )
        index, known = self._answers.get(service, (0, None))
        if instances != known:
            self._answers[service] = index + 1, instances
        return self._answers[service]

    async def _found(self, service: str) -> Collection[str]:
        look = self._looks.get(service) or self._begin(service)
        await self._wait(look)
        if not look.done():
            raise _refusal(service, f"no answer within {PATIENCE_S:g} s")
        self._looks.pop(service, None)
        try:
            return look.result()
        except (OSError, UnicodeError) as fault:
            raise _refusal(service, str(getattr(fault, "strerror", None) or fault)) from fault

    def _begin(self, service: str) -> _Look:
        look = asyncio.ensure_future(self._resolve(*_parts(service)))
        look.add_done_callback(_heed)
        self._looks[service] = look
        return look

    async def _wait(self, look: _Look) -> None:
        """Until it ends, or patience does; what goes on is waited for by the next look."""
        patience = asyncio.ensure_future(self._clock.sleep(PATIENCE_S))
        try:
            await asyncio.wait((look, patience), return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()


def _heed(look: _Look) -> None:
    """Nobody need be left to hear that it failed."""
    if not look.cancelled():
        look.exception()


def _parts(service: str) -> tuple[str, int]:
    host, _, port = service.rpartition(":")
    return host.strip("[]"), int(port)


def _refusal(service: str, why: str) -> StoreUnavailable:
    return StoreUnavailable(f"the name {_parts(service)[0]!r} cannot be resolved: {why}")


def _instance(service: str, address: str, port: int) -> Instance:
    shown = f"[{address}]" if ":" in address else address
    return Instance(id=f"{shown}:{port}", service=service, host=address, port=port)
