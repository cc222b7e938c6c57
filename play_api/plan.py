"""The plan of a Play, as data: who is asked, after whom, how long, and what if it fails.

A step starts the moment its own needs are met. Timeouts bound one step; the budget bounds all.

| criticality | when the step fails |
|---|---|
| CRITICAL | its fallback (only a proof that still holds), else the Play fails and names the step |
| OPEN | a bounded stand-in is granted, and reconciled later |
| DEGRADE | the part is replaced or left out, and named in `degraded` |
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chassis.contracts.accounts import ENTITLEMENT
from chassis.contracts.profiles import ALLOCATE, PROFILE
from chassis.contracts.streams import ACQUIRE, BUILD_MANIFEST, LICENCE_TOKEN, RANK
from chassis.contracts.titles import DECIDE, PLAYABLE
from chassis.contracts.viewing import BOOKMARK, UP_NEXT
from chassis.contracts.wire import Call

BUDGET_S = 1.0


class Criticality(enum.Enum):
    CRITICAL = "critical"
    OPEN = "fail open, bounded"
    DEGRADE = "degrade"


@dataclass(frozen=True, slots=True)
class Step:
    """One dependency of a Play. `fallback` and `never` are what docs and tests say of it.

    `refusal_ends` says that the service's own 4xx is the Play's answer, not a failure of the step.
    A step with a `compensation` is undone by it when the Play fails, also where its answer is not
    known.
    """

    name: str
    call: Call[Any, Any]
    criticality: Criticality
    timeout_s: float
    fallback: str
    never: str
    needs: tuple[str, ...] = ()
    refusal_ends: bool = True
    compensation: str | None = None


CRITICAL, OPEN, DEGRADE = Criticality.CRITICAL, Criticality.OPEN, Criticality.DEGRADE

PLAN: tuple[Step, ...] = (
    Step(
        "membership",
        ENTITLEMENT,
        CRITICAL,
        0.30,
        fallback="the last signed snapshot until it expires",
        never="guess a plan, upgrade quality",
    ),
    Step(
        "profiles",
        PROFILE,
        DEGRADE,
        0.25,
        fallback="maturity from the passport, else only titles fit for children",
        never="show an adult title to an unknown profile",
    ),
    Step(
        "catalog",
        PLAYABLE,
        CRITICAL,
        0.30,
        fallback="the title as last seen",
        never="turn an outage into 404",
    ),
    Step(
        "experiments",
        ALLOCATE,
        DEGRADE,
        0.10,
        fallback="control cells, no exposure event",
        never="a random cell",
        refusal_ends=False,
    ),
    Step(
        "bookmarks",
        BOOKMARK,
        DEGRADE,
        0.15,
        fallback="the client's start_at, else the beginning",
        never="write 0 over the real position",
        refusal_ends=False,
    ),
    Step(
        "rights",
        DECIDE,
        CRITICAL,
        0.30,
        needs=("membership", "profiles", "catalog"),
        fallback="a decision whose valid_until still holds",
        never="allow by default",
    ),
    Step(
        "sessions",
        ACQUIRE,
        OPEN,
        0.30,
        needs=("rights",),
        fallback="a provisional lease: short, one a device, capped, reconciled later",
        never="unlimited free streams",
        compensation="give_back",
    ),
    Step(
        "manifest",
        BUILD_MANIFEST,
        CRITICAL,
        0.30,
        needs=("sessions",),
        fallback="this account's last build with the same caps while its signature holds",
        never="an unsigned URL",
    ),
    Step(
        "licence",
        LICENCE_TOKEN,
        CRITICAL,
        0.30,
        needs=("sessions",),
        fallback="another instance; clear titles need none",
        never="a longer licence than policy",
    ),
    Step(
        "steering",
        RANK,
        DEGRADE,
        0.10,
        needs=("sessions",),
        fallback="the static pathway order",
        never="fail the play",
        refusal_ends=False,
    ),
    Step(
        "recommendations",
        UP_NEXT,
        DEGRADE,
        0.15,
        needs=("membership", "profiles", "catalog"),
        fallback="what was last suggested in the country, else left out",
        never="block",
        refusal_ends=False,
    ),
)


def check(plan: Sequence[Step]) -> None:
    """`ValueError` when there is no step, or one is named twice or needs one not before it."""
    if not plan:
        raise ValueError("the plan has no steps")
    seen: set[str] = set()
    for step in plan:
        if step.name in seen:
            raise ValueError(f"the step {step.name} is in the plan twice")
        missing = set(step.needs) - seen
        if missing:
            raise ValueError(f"{step.name} needs {sorted(missing)}, which must come before it")
        seen.add(step.name)
