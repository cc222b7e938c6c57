"""Starts what has been arranged and waits until it truly answers; undoes it when it does not."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from chassis.clock import Clock
from chassis.errors import StagedoorError
from deploy.servers import processes
from deploy.servers.arrange import Arrangement
from deploy.servers.folders import Folders, unusable
from deploy.servers.ports import is_free
from deploy.servers.processes import Identity
from deploy.servers.server import Instance, NotReady, Server, Setup
from deploy.servers.state import InstanceState
from deploy.servers.together import together

PAUSE_S = 0.05
PATIENCE_WHEN_UNDOING_S = 5.0
SHOWN_LINES = 15


class StartFailed(StagedoorError):
    """A server that ended, or does not answer in time; carries the end of its log."""

    code = "start_failed"


class Starter:
    """One `up`: remembers what it started, to be able to take it back."""

    def __init__(self, folders: Folders, clock: Clock, tell: Callable[[str, str], None]) -> None:
        self._folders = folders
        self._clock = clock
        self._tell = tell
        self._started: list[Identity] = []

    async def start(self, arranged: list[Arrangement]) -> None:
        """All at once; on any failure, or when cancelled, what was started is gone on return."""
        try:
            await together(self._start(one) for one in arranged)
        except BaseException as fault:
            await self._undo()
            if isinstance(fault, OSError):
                raise unusable(self._folders.home, fault) from None
            raise

    async def _undo(self) -> None:
        patience = PATIENCE_WHEN_UNDOING_S
        await together(processes.end(one, self._clock, patience) for one in self._started)

    async def _start(self, one: Arrangement) -> None:
        begun = self._clock.monotonic()
        pairs = list(zip(one.setup.instances, one.state.instances, strict=True))
        if one.kind.in_turn and not all(state.ready_s for state in one.state.instances):
            for instance, state in pairs:
                await self._start_instance(one.kind, one.setup, instance, state)
        else:
            await together(
                self._start_instance(one.kind, one.setup, instance, state)
                for instance, state in pairs
            )
        await self._until(one.kind, lambda: one.kind.finish(one.setup))
        self._tell(one.kind.name, f"answers after {self._clock.monotonic() - begun:.1f} s")

    async def _start_instance(
        self, kind: Server, setup: Setup, instance: Instance, state: InstanceState
    ) -> None:
        process, begun = state.process, self._clock.monotonic()
        if not processes.is_alive(process):
            self._tell(kind.name, f"starting on port {instance.port}")
            process = await self._spawn(kind, setup, instance)
            self._remember(kind, state, process, 0.0)

        async def ask() -> None:
            if not processes.is_alive(process):
                log = self._folders.log(kind.name, instance.name)
                why = in_its_way(kind, instance)
                raise StartFailed(f"{instance.name} ended while it started{why}{last_lines(log)}")
            await kind.probe(setup, instance)

        await self._until(kind, ask)
        if process in self._started:
            self._remember(kind, state, process, round(self._clock.monotonic() - begun, 2))

    async def _spawn(self, kind: Server, setup: Setup, instance: Instance) -> Identity:
        self._folders.make(kind.name, instance)
        await kind.prepare(setup, instance, self._clock)
        command = await kind.command(setup, instance)
        process = processes.spawn(
            command.arguments,
            {"TMPDIR": str(instance.temporary), **command.environ},
            instance.folder,
            self._folders.log(kind.name, instance.name),
            self._folders.home,
            instance.name,
        )
        self._started.append(process)
        return process

    async def _until(self, kind: Server, ask: Callable[[], Awaitable[None]]) -> None:
        """Asks until it is content; `StartFailed` has its last answer when that takes too long."""
        give_up = self._clock.monotonic() + kind.ready_s
        while True:
            try:
                return await ask()
            except (NotReady, OSError) as fault:
                why = str(fault)
            if self._clock.monotonic() > give_up:
                raise StartFailed(
                    f"{kind.name} does not answer after {kind.ready_s:.0f} s ({why}); see"
                    f" `stagedoor servers logs {kind.name}`"
                )
            await self._clock.sleep(PAUSE_S)

    def _remember(
        self, kind: Server, state: InstanceState, process: Identity, ready_s: float
    ) -> None:
        changed = msgspec.structs.replace(state, process=process, ready_s=ready_s)
        kept = self._folders.state.read()[kind.name]
        self._folders.state.write(kind.name, kept.with_instance(changed))


def in_its_way(kind: Server, instance: Instance) -> str:
    """Who has taken a port of it since that was looked at, to stand after a sentence."""
    address = instance.address
    taken = [str(port) for port in instance.ports.values() if not is_free(address, port)]
    if not taken:
        return ""
    return (
        f": another process has taken port {', '.join(taken)} of {address} meanwhile: free it, or"
        f" choose another with --port {kind.name}=PORT (0: any free one)"
    )


def last_lines(log: Path) -> str:
    """The end of a log, indented, to stand after a sentence."""
    try:
        with log.open(encoding="utf-8", errors="replace") as stream:
            lines = list(deque(stream, maxlen=SHOWN_LINES))
    except OSError:
        return ""
    return "; the end of its log:" + "".join(f"\n    {line.rstrip()}" for line in lines)
