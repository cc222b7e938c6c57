"""Live lists of instances, kept by blocking queries in the background.

Reading a list never waits and never fails: it is what was last known to be good. Losing the
registry, or whoever else is asked, changes nothing; what is believed of its answers is decided in
`roster`. With a `state` directory the lists survive the process, so that it can start while the
registry is away.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from chassis.clock import Clock, Timer
from chassis.contracts.wire import NOT_DECODED
from chassis.deadline import Deadline
from chassis.discovery import background
from chassis.discovery.registry import Instance, Listing
from chassis.discovery.roster import Roster, RosterConfig
from chassis.errors import NoInstances, StoreFailure

Subscriber = Callable[[tuple[Instance, ...]], None]

_FIRST_BACKOFF_S = 0.1
_LAST_BACKOFF_S = 2.0
_BREATH_S = 0.02
"""Between two answers: gathers a burst of changes, and bounds what a registry that never blocks
can cost."""


class Directory:
    """The instances of every watched service. Belongs to one event loop."""

    def __init__(
        self,
        registry: Listing,
        clock: Clock,
        *,
        config: RosterConfig | None = None,
        state: Path | None = None,
        wait_s: float = 30.0,
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._config = config or RosterConfig()
        self._state = state
        self._wait_s = wait_s
        self._watches: dict[str, _Watch] = {}

    def watch(self, service: str) -> None:
        """Starts following `service`; again does nothing. Needs a running loop."""
        known = self._watches.get(service)
        if known is None:
            roster = Roster(self._config, _remembered(self._state, service))
            self._watches[service] = _Watch(self, service, roster)
        elif known.has_ended:
            self._watches[service] = _Watch(self, service, known.roster)

    def unwatch(self, service: str) -> None:
        """Stops following `service` at once, if it is followed; its list stays readable."""
        watch = self._watches.get(service)
        if watch is not None:
            watch.end()

    def instances(self, service: str) -> tuple[Instance, ...]:
        """The believed instances, the same tuple until they change; empty when not watched."""
        watch = self._watches.get(service)
        return watch.roster.instances if watch is not None else ()

    async def ready(self, service: str, timeout_s: float) -> tuple[Instance, ...]:
        """Watches `service` and waits for its first instance; `NoInstances` when none comes."""
        self.watch(service)
        watch = self._watches[service]
        if not await watch.until(lambda: bool(watch.roster.instances), timeout_s):
            raise NoInstances(f"no instance of {service} appeared within {timeout_s:g} s")
        return watch.roster.instances

    async def first_answer(self, service: str, timeout_s: float) -> None:
        """Watches `service` and waits until there is something to go by: instances, were they only
        remembered, or an answer without any, or a refusal. No longer than `timeout_s`."""
        self.watch(service)
        watch = self._watches[service]
        await watch.until(lambda: bool(watch.roster.instances) or watch.roster.heard, timeout_s)

    def subscribe(self, service: str, callback: Subscriber) -> Callable[[], None]:
        """Calls back on the loop with the new tuple after every swap; returns what ends that."""
        self.watch(service)
        subscribers = self._watches[service].subscribers
        subscribers.append(callback)
        return lambda: subscribers.remove(callback) if callback in subscribers else None

    async def close(self) -> None:
        """Stops following; the lists stay readable."""
        await asyncio.gather(*(watch.stop() for watch in self._watches.values()))

    def __repr__(self) -> str:
        lists = ", ".join(f"{name}: {watch.roster!r}" for name, watch in self._watches.items())
        return f"Directory({lists})"


class _Watch:
    """Follows one service: one task asking, one timer for what falls due by itself."""

    def __init__(self, directory: Directory, service: str, roster: Roster) -> None:
        self.roster = roster
        self.has_ended = False
        self.subscribers: list[Subscriber] = []
        self._service = service
        self._registry = directory._registry
        self._clock = directory._clock
        self._wait_s = directory._wait_s
        self._state = directory._state
        self._timer: Timer | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._task = background.start(self._follow(), f"the watch of {service}")

    async def _follow(self) -> None:
        index, backoff = 0, _FIRST_BACKOFF_S
        while True:
            try:
                answered, found = await self._registry.instances(
                    self._service, index=index, wait_s=self._wait_s
                )
            except StoreFailure:
                self.roster.lost()
                self._wake()
                index = 0
                await self._clock.sleep(backoff * (0.5 + self._clock.random() / 2))
                backoff = min(_LAST_BACKOFF_S, backoff * 2)
                continue
            backoff = _FIRST_BACKOFF_S
            index = answered if answered >= index else 0
            self._settle(self.roster.answer(found, self._clock.monotonic()))
            await self._clock.sleep(_BREATH_S)

    def _settle(self, changed: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()
        if changed:
            self._announce()
        due = self.roster.due_s(self._clock.monotonic())
        if due is not None:
            self._timer = self._clock.call_later(due, self._reconsider)

    def _reconsider(self) -> None:
        self._timer = None
        self._settle(self.roster.reconsider(self._clock.monotonic()))

    def _announce(self) -> None:
        _remember(self._state, self._service, self.roster.instances)
        loop = asyncio.get_running_loop()
        for subscriber in self.subscribers:
            loop.call_soon(subscriber, self.roster.instances)

    def _wake(self) -> None:
        for waiting in self._waiting:
            _resolve(waiting)

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits for what the roster will say; False when it does not within `timeout_s`."""
        deadline = Deadline.after(self._clock, timeout_s)
        while not condition():
            if deadline.expired():
                return False
            await self._heard_within(deadline.remaining())
        return True

    async def _heard_within(self, seconds: float) -> None:
        """Returns at the next answer, refusal or swap, or after `seconds`."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        timer = self._clock.call_later(seconds, _resolve, waiting)
        try:
            await waiting
        finally:
            timer.cancel()
            self._waiting.discard(waiting)

    def end(self) -> None:
        self.has_ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._task.cancel()

    async def stop(self) -> None:
        self.end()
        await background.stop(self._task)


def _resolve(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _file(state: Path, service: str) -> Path:
    return state / f"{service}.json"


def _remembered(state: Path | None, service: str) -> list[Instance]:
    """The list of an earlier process; nothing when there is none or it cannot be read."""
    if state is None:
        return []
    try:
        return msgspec.json.decode(_file(state, service).read_bytes(), type=list[Instance])
    except (OSError, *NOT_DECODED):
        return []


def _remember(state: Path | None, service: str, instances: tuple[Instance, ...]) -> None:
    """Best effort: a full disk must not stop discovery."""
    if state is None:
        return
    final = _file(state, service)
    draft = final.with_suffix(f".{os.getpid()}.tmp")
    try:
        state.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(msgspec.json.encode(instances))
        draft.replace(final)
    except OSError:
        with suppress(OSError):
            draft.unlink()
