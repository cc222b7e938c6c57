"""The use case: run the plan for one Play, stand in for what fails, undo what was half done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from chassis.clock import Clock
from chassis.contracts.accounts import Entitlement
from chassis.contracts.play import PlayAnswer
from chassis.contracts.streams import GiveBack, Reconcile
from chassis.deadline import Deadline
from chassis.errors import (
    BreakerOpen,
    BulkheadFull,
    DeadlineExceeded,
    DependencyFailed,
    OriginGarbled,
    PeerRefusal,
    Retryable,
    StagedoorError,
    Unauthenticated,
)
from chassis.http.api import Context
from chassis.identity import Seal
from play_api.fallbacks import Fallbacks
from play_api.plan import BUDGET_S, Step
from play_api.play import MembershipInactive, Play
from play_api.play_events import PlayEvents
from play_api.run import Course

Ask = Callable[[Any, Context], Awaitable[Any]]
Told = Callable[[str, str], None]

OVERLOADED = 429
USABLE = 0.9
"""Of the time that the caller leaves: the answer, which may name a step, must be there before the
caller gives up."""
GIVE_BACK_TRIES = 5
GIVE_BACK_PAUSE_S = 0.5


class Playback:
    """Answers Plays. `asks` are the prepared calls by step name."""

    def __init__(
        self,
        plan: Sequence[Step],
        asks: Mapping[str, Ask],
        *,
        give_back: Ask,
        fallbacks: Fallbacks,
        seal: Seal,
        events: PlayEvents,
        clock: Clock,
        on_fallback: Told,
        on_step: Callable[[str, float], None],
    ) -> None:
        self._course = Course(plan)
        self._asks = asks
        self._give_back = give_back
        self._fallbacks = fallbacks
        self._seal = seal
        self._events = events
        self._clock = clock
        self._on_fallback = on_fallback
        self._on_step = on_step
        self._undoing: set[asyncio.Task[None]] = set()

    async def play(self, play: Play, context: Context) -> PlayAnswer:
        """The answer.

        Raises what forbids the Play (`RequestFailure`), or `DependencyFailed` naming the critical
        step, or `DeadlineExceeded` naming the one that it passed in. Whichever it is, no lease
        stays behind, heard of or not.
        """
        usable_s = min(BUDGET_S, USABLE * context.deadline.remaining())
        context = Context(context.deadline.at_most(usable_s), context.trace, context.passport_bytes)
        answered = False
        try:
            await self._course.run(lambda step: self._step(step, play, context))
            answer = play.answer()
            answered = True
        finally:
            if not answered:
                self._undo(play, context)
        self._events.started(play, context.trace.header().decode())
        return answer

    async def _step(self, step: Step, play: Play, context: Context) -> None:
        question = play.question(step.name)
        if question is None:
            return
        began = self._clock.monotonic()
        play.may_hold_lease |= step.compensation is not None
        try:
            answer = await self._asks[step.name](question, context)
            self._take(step, play, question, answer)
        except StagedoorError as failure:
            self._fail(step, play, question, failure)
        finally:
            self._on_step(step.name, self._clock.monotonic() - began)

    def _take(self, step: Step, play: Play, question: Any, answer: Any) -> None:
        if step.name == "membership":
            answer = self._open(answer.snapshot)
        play.take(step.name, answer)
        self._fallbacks.keep(step.name, question, answer)

    def _open(self, snapshot: str) -> Entitlement:
        try:
            return self._seal.open("entitlement", snapshot, Entitlement)
        except Unauthenticated as fault:
            raise OriginGarbled(f"membership's snapshot does not open: {fault.detail}") from None

    def _fail(self, step: Step, play: Play, question: Any, failure: StagedoorError) -> None:
        """Stands in for the step, or raises what the Play ends with."""
        if step.compensation is not None and _did_nothing(failure):
            play.may_hold_lease = False
        if step.refusal_ends and isinstance(failure, PeerRefusal) and failure.status != OVERLOADED:
            raise _refused(step, failure)
        stand_in = self._fallbacks.stand_in(step.name, play, question)
        if stand_in is None:
            raise _ended(step, failure)
        answer, said = stand_in
        play.take(step.name, answer)
        play.mark(step.name, failure.code, said, failure.retry_after_s)
        self._on_fallback(step.name, failure.code)

    def _undo(self, play: Play, context: Context) -> None:
        """Gives back in the background: the caller may be gone and the deadline over."""
        if play.lease is not None and play.lease.provisional:
            self._fallbacks.provisional.withdraw(play.lease)
        if play.may_hold_lease:
            task = asyncio.ensure_future(self._give_lease_back(play, context))
            self._undoing.add(task)
            task.add_done_callback(self._undoing.discard)

    async def _give_lease_back(self, play: Play, context: Context) -> None:
        """Tries a few times; the lease ends by itself at the latest after its own time to live."""
        given = GiveBack(
            account_id=play.passport.account_id, play_id=play.play_id, attempt=play.attempt
        )
        free = Context(Deadline.never(self._clock), context.trace)
        for _ in range(GIVE_BACK_TRIES):
            try:
                await self._give_back(given, free)
            except PeerRefusal:
                return
            except StagedoorError:
                await self._clock.sleep(GIVE_BACK_PAUSE_S)
            else:
                return

    async def close(self) -> None:
        """Waits for leases that are being given back."""
        if self._undoing:
            await asyncio.gather(*self._undoing, return_exceptions=True)


async def reconcile_forever(
    fallbacks: Fallbacks, tell: Ask, clock: Clock, context: Callable[[], Context]
) -> None:
    """Tells sessions about provisional leases as soon as it answers again."""
    while True:
        await clock.sleep(1.0)
        leases = fallbacks.provisional.untold()
        if not leases:
            continue
        try:
            await tell(Reconcile(leases=leases), context())
        except StagedoorError:
            continue
        fallbacks.provisional.told(leases)


def _did_nothing(failure: StagedoorError) -> bool:
    """Whether the service has certainly done nothing of what it was asked."""
    if isinstance(failure, PeerRefusal | BreakerOpen | BulkheadFull):
        return True
    return failure.retryable is Retryable.ALWAYS


def _refused(step: Step, failure: PeerRefusal) -> StagedoorError:
    if step.name == "membership" and failure.status == 404:
        return MembershipInactive("this account has no membership; sign up for a plan first")
    return failure


def _ended(step: Step, failure: StagedoorError) -> StagedoorError:
    if isinstance(failure, DeadlineExceeded):
        return DeadlineExceeded(failure.detail, members={"step": step.name})
    return DependencyFailed(step.name, failure, retry_after_s=failure.retry_after_s or 1.0)
