"""Waits until a system is whole, or says in one message what keeps it from that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from chassis.clock import Clock
from chassis.discovery import Instance, Registry
from chassis.discovery.directory import Directory
from chassis.errors import ConfigurationFault, StagedoorError

READY_S = 30.0
_LOOK_AGAIN_S = 0.02
_ASK_S = 3.0


class Hopeless(NamedTuple):
    """A process that ended by itself and will again; `misconfigured` is what it says of itself."""

    instance: str
    words: str
    misconfigured: bool


class Starting(Protocol):
    """What is being started."""

    def missing(self, found: Iterable[Instance]) -> list[str]: ...

    def hopeless(self) -> Sequence[Hopeless]: ...


async def whole(
    starting: Starting,
    services: Iterable[str],
    directory: Directory,
    registry: Registry,
    clock: Clock,
    log: Path,
    *,
    within_s: float = READY_S,
) -> None:
    """Returns when every process is registered.

    `StagedoorError` says who cannot start and why, or what is missing after a while;
    `ConfigurationFault` when starting again would not help anybody.
    """
    watched = sorted(set(services))
    give_up = clock.monotonic() + within_s
    while missing := starting.missing(one for name in watched for one in directory.instances(name)):
        if hopeless := starting.hopeless():
            raise cannot_start(hopeless)
        if clock.monotonic() > give_up:
            why = await _registry_fault(registry, watched[0], clock)
            raise StagedoorError(
                f"not ready after {within_s:.0f} s: "
                + (why or f"{', '.join(missing)}; see what they say in {log}")
            )
        await clock.sleep(_LOOK_AGAIN_S)


def cannot_start(hopeless: Sequence[Hopeless]) -> StagedoorError:
    """Each reason once, with all who give it."""
    reasons: dict[str, list[str]] = {}
    for one in hopeless:
        reasons.setdefault(one.words, []).append(one.instance)
    faults = [f"{', '.join(names)}: {words}" for words, names in reasons.items()]
    if all(one.misconfigured for one in hopeless):
        return ConfigurationFault(faults, what="what processes are given")
    return StagedoorError("not everything can start:\n  - " + "\n  - ".join(faults))


async def _registry_fault(registry: Registry, service: str, clock: Clock) -> str:
    """What is wrong with the registry, where everybody waits for it; empty when it answers."""
    try:
        async with asyncio.timeout(_ASK_S):
            await registry.instances(service, wait_s=0)
    except StagedoorError as fault:
        return str(fault)
    except TimeoutError:
        return "the registry does not answer"
    return ""
