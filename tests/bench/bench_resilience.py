"""What protecting a call costs, in microseconds a call on one core, beside the naive stack.

    python -m tests.bench.bench_resilience [--seconds 4]

Each figure is the best of several short rounds minus the bare call's, all interleaved in one
run, so that a busy machine disturbs every row alike. The bars were set on a machine where the
naive stack took 22 us; `scaled_us` is what ours would take there. JSON on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import time
from collections.abc import Awaitable, Callable

import pybreaker
import tenacity
import uvloop

from chassis.clock import SYSTEM
from chassis.deadline import Deadline
from chassis.errors import Refusal
from chassis.resilience import Breaker, BreakerConfig, RetryConfig, TimerWheel, policy

Call = Callable[[], Awaitable[object]]
BARS_US = {
    "breaker": 0.35,
    "policy": 1.0,
    "policy + timeout": 1.5,
    "rejected: open": 0.25,
    "rejected: full": 0.25,
}
NAIVE_WHERE_BARS_WERE_SET_US = 22.0
FAR_S = 1e6


async def bare() -> None:
    """The protected call: nothing."""


def cases() -> dict[str, Call]:
    clock = SYSTEM
    wheel = TimerWheel(clock)
    deadline = Deadline.after(clock, FAR_S)
    timed = BreakerConfig(window="time")
    breaker = Breaker("breaker")
    fused = policy("fused", timeout_s=None, breaker=timed)
    deadlined = policy("timeout", timeout_s=1.0, breaker=timed, wheel=wheel)
    retried = policy("retry", timeout_s=1.0, breaker=timed, wheel=wheel, retry=RetryConfig())
    never = Deadline.never(clock)
    return {
        "bare": lambda: bare(),  # noqa: PLW0108  # the other rows pay for a lambda too
        "breaker": lambda: breaker.acall(bare),
        "policy": lambda: fused.call(bare, deadline=never),
        "policy + timeout": lambda: deadlined.call(bare, deadline=deadline),
        "policy + timeout + retry": lambda: retried.call(bare, deadline=deadline),
        "naive stack": naive(),
    }


def rejections() -> dict[str, Call]:
    opened = policy("open", timeout_s=1.0)
    opened.breaker.force_open()
    full = policy("full", timeout_s=1.0, bulkhead=1)
    full.bulkhead.in_flight = 1
    return {
        "rejected: open": lambda: opened.call(bare),
        "rejected: full": lambda: full.call(bare),
    }


def naive() -> Call:
    """What one gets by stacking the libraries as their documentation shows them."""
    breaker = pybreaker.CircuitBreaker()
    places = asyncio.Semaphore(64)

    @tenacity.retry(stop=tenacity.stop_after_attempt(3), reraise=True)
    async def call() -> None:
        async with places:
            with breaker.calling():
                async with asyncio.timeout(1.0):
                    await bare()

    return call


async def round_us(call: Call, times: int) -> float:
    started = time.perf_counter_ns()
    for _ in range(times):
        await call()
    return (time.perf_counter_ns() - started) / times / 1000


async def refused_us(call: Call, times: int) -> float:
    started = time.perf_counter_ns()
    for _ in range(times):
        try:
            await call()
        except Refusal:
            continue
    return (time.perf_counter_ns() - started) / times / 1000


async def measure(seconds: float) -> dict[str, float]:
    """The best round of each case, all cases taking turns until the time is over."""
    best: dict[str, float] = {}
    calls, refusals = cases(), rejections()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for name, call in calls.items():
            took = await round_us(call, 300 if name == "naive stack" else 3000)
            best[name] = min(took, best.get(name, took))
        for name, call in refusals.items():
            took = await refused_us(call, 3000)
            best[name] = min(took, best.get(name, took))
    return best


def report(best: dict[str, float]) -> dict[str, object]:
    bare_us = best.pop("bare")
    costs = {name: us - bare_us for name, us in best.items()}
    scale = NAIVE_WHERE_BARS_WERE_SET_US / costs["naive stack"]
    rows = [
        {
            "what": name,
            "us": round(us, 3),
            "scaled_us": round(us * scale, 3),
            "bar_us": BARS_US.get(name),
        }
        for name, us in costs.items()
    ]
    return {
        "bench": "resilience",
        "unit": "us a call above the bare one, best round",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "bare_us": round(bare_us, 3),
        "rows": rows,
        "naive_to_ours": round(costs["naive stack"] / costs["policy + timeout + retry"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="what protecting a call costs")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long to measure")
    seconds = parser.parse_args().seconds
    print(json.dumps(report(uvloop.run(measure(seconds))), indent=2))


if __name__ == "__main__":
    main()
