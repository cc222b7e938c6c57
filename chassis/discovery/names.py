"""Instances by DNS: each address of a name is one. Asked as a registry is, so that a `Directory`
can follow a name: what it was last known to mean is kept while it cannot be resolved, or means
nothing all at once.

The system's resolver does not say how long an answer holds, so a name is resolved again and again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection

from chassis.clock import Clock
from chassis.discovery.registry import DEFAULT_WAIT_S, Instance
from chassis.errors import StoreUnavailable

REFRESH_S = 5.0
"""Between two looks at one name."""
_PATIENCE_S = 10.0

Resolve = Callable[[str, int], Awaitable[Collection[str]]]
"""The addresses of a host; `OSError` when it has none or nobody can tell."""


async def addresses(host: str, port: int) -> Collection[str]:
    """As the system resolves it: its hosts file, its name servers, its families of addresses."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return {str(place[0]) for *_, place in found}


class Names:
    """Answers for services that are `host:port`; instances have the address as their id."""

    def __init__(
        self, clock: Clock, resolve: Resolve = addresses, *, refresh_s: float = REFRESH_S
    ) -> None:
        self._clock = clock
        self._resolve = resolve
        self._refresh_s = refresh_s
        self._answers: dict[str, tuple[int, list[Instance]]] = {}

    def __repr__(self) -> str:
        return f"Names({sorted(self._answers)})"

    async def instances(
        self, service: str, *, index: int = 0, wait_s: float = DEFAULT_WAIT_S
    ) -> tuple[int, list[Instance]]:
        """The name's addresses, ordered; with the `index` of an answer, as soon as they differ from
        it or `wait_s` has passed. `StoreUnavailable` when the name cannot be resolved."""
        until = self._clock.monotonic() + wait_s
        if index:
            await self._clock.sleep(self._refresh_s)
        while (answer := await self._look(service))[0] == index and self._clock.monotonic() < until:
            await self._clock.sleep(self._refresh_s)
        return answer

    async def _look(self, service: str) -> tuple[int, list[Instance]]:
        host, _, port = service.rpartition(":")
        found = await self._found(host.strip("[]"), int(port))
        instances = sorted(
            (_instance(host, address, int(port)) for address in found), key=lambda one: one.id
        )
        index, known = self._answers.get(service, (0, None))
        if instances != known:
            self._answers[service] = index + 1, instances
        return self._answers[service]

    async def _found(self, host: str, port: int) -> Collection[str]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._resolve(host, port)
        except TimeoutError:
            why = f"no answer within {_PATIENCE_S:g} s"
        except OSError as fault:
            why = str(fault.strerror or fault)
        raise StoreUnavailable(f"the name {host!r} cannot be resolved: {why}")


def _instance(service: str, address: str, port: int) -> Instance:
    shown = f"[{address}]" if ":" in address else address
    return Instance(id=f"{shown}:{port}", service=service, host=address, port=port)
