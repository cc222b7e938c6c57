"""The composition root of the Play API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chassis.contracts.events import TOPICS
from chassis.contracts.streams import GIVE_BACK, RECONCILE
from chassis.deadline import Deadline
from chassis.events import Log, Spool, Topic, open_log
from chassis.events.measures import tell_of_spool
from chassis.http.api import Context
from chassis.service import Chassis, Service
from chassis.telemetry import Trace
from play_api.api import PlayApi
from play_api.fallbacks import Fallbacks
from play_api.plan import PLAN, Step, check
from play_api.play_events import PlayEvents
from play_api.playback import Ask, Playback, reconcile_forever

SIDE_TIMEOUT_S = 0.5


async def build(
    chassis: Chassis,
    *,
    log: Log | None = None,
    asks: Mapping[str, Ask] | None = None,
    plan: Sequence[Step] = PLAN,
) -> Service:
    check(plan)
    clock, settings, telemetry = chassis.clock, chassis.settings, chassis.telemetry
    log = log or open_log(settings.log_url)
    topics = [Topic(name) for name in TOPICS]
    await log.ensure(*topics)
    folder = settings.root / "spool" / telemetry.instance
    spool = Spool(folder, log, clock, topics=topics, say=telemetry.log.say)
    tell_of_spool(telemetry.metrics, spool)
    asks = asks or {
        step.name: chassis.peer(step.call, timeout_s=step.timeout_s, bulkhead=256) for step in plan
    }
    give_back = asks.get("give_back") or chassis.peer(GIVE_BACK, timeout_s=SIDE_TIMEOUT_S)
    reconcile = asks.get("reconcile") or chassis.peer(RECONCILE, timeout_s=SIDE_TIMEOUT_S)
    fallbacks = Fallbacks(clock)
    used = telemetry.metrics.counter(
        "play_fallbacks_total", "Steps that were stood in for.", ("step", "reason")
    )
    took = telemetry.metrics.histogram(
        "play_step_duration_seconds", "One step, with its stand-in.", ("step",)
    )
    durations = {step.name: took.child(step.name) for step in plan}

    def count_fallback(step: str, reason: str) -> None:
        used.child(step, reason).n += 1

    playback = Playback(
        plan,
        asks,
        give_back=give_back,
        fallbacks=fallbacks,
        seal=chassis.seal,
        events=PlayEvents(spool, clock, f"/play_api/{telemetry.instance}"),
        clock=clock,
        on_fallback=count_fallback,
        on_step=lambda step, seconds: durations[step].observe(seconds),
    )
    api = chassis.api()
    PlayApi(playback, chassis.seal, clock, telemetry).mount(api)

    def unhurried() -> Context:
        return Context(Deadline.never(clock), Trace.new(clock))

    return Service(
        api,
        background=[
            spool.run,
            lambda: reconcile_forever(fallbacks, reconcile, clock, unhurried),
        ],
        closing=[log.close, spool.close, playback.close],
    )
