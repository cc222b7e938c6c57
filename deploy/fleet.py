"""Keeps the processes of one system running: starts, restarts with back-off, kills, drains."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chassis.clock import Clock, Timer
from chassis.discovery import Instance
from chassis.errors import ConfigurationFault, Conflict, NotFound, StagedoorError
from chassis.telemetry import Telemetry
from deploy.forking import Child, Zygote
from deploy.processes import ProcessSpec
from deploy.restarts import RestartPolicy, RestartState
from deploy.starting import Hopeless
from deploy.zygote import EXIT_CONFIGURATION

_MESSAGE = "stagedoor: "
_MOST_WORDS = 2000


@dataclass(slots=True)
class Running:
    """One process of the system as it is now. `started` is on the monotonic clock."""

    spec: ProcessSpec
    restarts: RestartState
    pid: int | None = None
    started: float = 0.0
    starts: int = 0
    status: str = "starting"
    last_exit: int | None = None
    hold_s: float = 0.0
    timer: Timer | None = None
    child: Child | None = None
    is_leaving: bool = False
    """Told to end, and started again by whoever told it."""


class Fleet:
    """What does not end within `kill_after_s` of SIGTERM is killed."""

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        channel: socket.socket,
        environ: Mapping[str, str],
        output: Path,
        clock: Clock,
        telemetry: Telemetry,
        policy: RestartPolicy,
        *,
        kill_after_s: float = 10.0,
    ) -> None:
        self._environ = environ
        self._output = output
        self._clock = clock
        self._log = telemetry.log
        self._kill_after_s = kill_after_s
        self._draining = False
        self._starting: set[asyncio.Task[None]] = set()
        self.zygote = Zygote(channel)
        self.processes = {spec.instance: Running(spec, RestartState(policy)) for spec in specs}
        self._restarts = telemetry.metrics.counter(
            "worker_restarts_total", "Processes started again.", ("service",)
        )

    async def start(self) -> None:
        await self.zygote.start()
        for running in self.processes.values():
            await self._spawn(running)

    async def job(self, name: str, module: str) -> str:
        """Runs `module` once, in a process that takes its memory with it; what it wrote.

        `StagedoorError` with its last words when it failed, `ConfigurationFault` when it would
        fail again.
        """
        await self.zygote.start()
        output = self._output / f"{name}.out"
        output.unlink(missing_ok=True)
        child = await self.zygote.spawn(name, module, self._environ, output)
        status = await child.ended
        if status == EXIT_CONFIGURATION:
            raise ConfigurationFault([last_words(output)], what=f"what {name} is given")
        if status:
            raise StagedoorError(f"{name} ended with status {status}: {last_words(output)}")
        return output.read_text().strip()

    async def _spawn(self, running: Running) -> None:
        self.adopt(running, await self.fork(running.spec))

    async def fork(self, spec: ProcessSpec) -> Child:
        """A process of `spec`, which nobody follows yet."""
        environ = {
            **self._environ,
            **spec.environ,
            "STAGEDOOR_INSTANCE": spec.instance,
        }
        output = self._output / f"{spec.instance}.out"
        hold = environ.get("STAGEDOOR_LISTEN", "").split() if spec.hands_over else ()
        return await self.zygote.spawn(spec.service, spec.module, environ, output, hold)

    def adopt(self, running: Running, child: Child) -> None:
        """From now on `child` is the process of `running`, in place of any other."""
        if running.timer is not None:
            running.timer.cancel()
            running.timer = None
        running.child = child
        running.pid = child.pid
        running.started = self._clock.monotonic()
        running.starts += 1
        running.status = "running"
        child.ended.add_done_callback(lambda ended: self._ended(running, child, ended.result()))

    def _ended(self, running: Running, child: Child, status: int) -> None:
        if running.child is not child:
            return  # it has been replaced
        running.pid, running.last_exit = None, status
        if self._draining or running.is_leaving:
            running.status = "stopped"
            return
        delay = self._plan(running)
        instance = running.spec.instance
        self._log.say("ended", process=instance, status=status, again_in_s=round(delay, 1))

    def _plan(self, running: Running) -> float:
        """Starts what crashed again after a while; how many seconds that is."""
        delay = running.restarts.crashed(running.started, self._clock.monotonic())
        delay, running.hold_s = max(delay, running.hold_s), 0.0
        running.status = "quarantined" if running.restarts.quarantined else "restarting"
        running.timer = self._clock.call_later(delay, self._again, running)
        return delay

    def _again(self, running: Running) -> None:
        running.timer = None
        self._restarts.child(running.spec.service).n += 1
        task = asyncio.ensure_future(self._start_again(running))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start_again(self, running: Running) -> None:
        try:
            await self._spawn(running)
        except StagedoorError as failure:
            running.started = self._clock.monotonic()
            delay, instance = self._plan(running), running.spec.instance
            self._log.say(
                "not_started", process=instance, why=str(failure), again_in_s=round(delay, 1)
            )

    def hopeless(self) -> list[Hopeless]:
        """Who ended by itself and will again, with its last words: whoever says that it is
        configured wrongly, or has failed twice."""
        return [
            Hopeless(
                one.spec.instance,
                self.words(one.spec),
                one.last_exit == EXIT_CONFIGURATION,
            )
            for one in self.processes.values()
            if one.pid is None
            and one.last_exit is not None
            and (one.last_exit == EXIT_CONFIGURATION or (one.last_exit > 0 and one.starts > 1))
        ]

    def missing(self, found: Iterable[Instance]) -> list[str]:
        """Who runs and is not among those `found` in the registry, where one that was killed
        before may still stand."""
        entered = {(one.id, one.meta.get("pid")) for one in found}
        return [name for name, one in self.processes.items() if (name, str(one.pid)) not in entered]

    def named(self, name: str) -> list[Running]:
        """The processes of a service, or the one instance; `NotFound` says which there are."""
        found = [
            one for one in self.processes.values() if name in (one.spec.service, one.spec.instance)
        ]
        if not found:
            known = sorted({one.spec.service for one in self.processes.values()})
            raise NotFound(f"there is no process {name!r}; there are {', '.join(known)}")
        return found

    def kill(self, name: str, hold_s: float) -> list[int]:
        """SIGKILL to every running process of a service, or to one instance; started again after
        at least `hold_s`. The pids."""
        chosen = self.named(name)
        killed = []
        for running in chosen:
            if running.pid is not None:
                running.hold_s = hold_s
                _signal(running.pid, signal.SIGKILL)
                killed.append(running.pid)
        if not killed:
            raise Conflict(f"{name} is not running now (it is {chosen[0].status})")
        return killed

    async def drain(self) -> None:
        """SIGTERM group by group in drain order; SIGKILL to what does not end in time."""
        self._draining = True
        await asyncio.gather(*self._starting)
        for running in self.processes.values():
            if running.timer is not None:
                running.timer.cancel()
                running.status = "stopped"
        for order in sorted({one.spec.drain_order for one in self.processes.values()}):
            group = [one for one in self.processes.values() if one.spec.drain_order == order]
            await asyncio.gather(*(self._stop(one) for one in group if one.pid is not None))
        await self.zygote.close()

    async def _stop(self, running: Running) -> None:
        if running.child is not None:
            await self.end(running.child, running.spec, signal.SIGTERM)

    async def end(self, child: Child, spec: ProcessSpec, number: int) -> None:
        """Sends the signal and waits for the end; SIGKILL to what does not end in time."""
        _signal(child.pid, number)
        await asyncio.wait([child.ended], timeout=self._kill_after_s)
        if not child.ended.done():
            self._log.say("killed", process=spec.instance, why="it did not drain in time")
            _signal(child.pid, signal.SIGKILL)
            await asyncio.wait([child.ended])

    def words(self, spec: ProcessSpec) -> str:
        """The last words of the process."""
        return last_words(self._output / f"{spec.instance}.out")


def last_words(output: Path) -> str:
    """The failure that a process wrote last: its message, or the end of its traceback."""
    try:
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    except OSError:
        lines = [""]
    told = [at for at, line in enumerate(lines) if line.startswith(_MESSAGE)]
    last = lines[told[-1] :] if told and not _is_traceback(lines[told[-1] :]) else lines[-1:]
    return "\n".join(last).removeprefix(_MESSAGE)[:_MOST_WORDS] or f"see {output}"


def _is_traceback(lines: Sequence[str]) -> bool:
    return any(line.startswith("Traceback") for line in lines)


def _signal(pid: int | None, number: int) -> None:
    """To a process that may have ended in this very moment."""
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
