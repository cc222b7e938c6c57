"""Which processes the system is made of, in the order they drain: the edge first, the log last."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

MICROSERVICES = (
    "identity",
    "membership",
    "profiles",
    "catalog",
    "rights",
    "sessions",
    "manifest",
    "licence",
    "steering",
    "bookmarks",
    "recommendations",
    "experiments",
    "beacon",
)
SERVICES = ("gateway", "play_api", *MICROSERVICES, "stream_pipeline")
DEFAULT_INSTANCES: Mapping[str, int] = {"gateway": 2}
_ENVIRON: Mapping[str, Mapping[str, str]] = {
    "play_api": {"STAGEDOOR_SPANS": "4096"},
    "stream_pipeline": {"ARROW_DEFAULT_MEMORY_POOL": "system"},
}
"""A Play leaves a dozen spans in the process that composes it, one or two in any other. Arrow's
own memory pool keeps 20 MB that Python's would give back."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process: which service it is, as which instance, and its own environment."""

    service: str
    instance: str
    module: str
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def hands_over(self) -> bool:
        """Whether a successor takes its sockets over while it drains. The others are found in the
        registry; most keep a spool that only one process may have."""
        return self.service == "gateway"

    @property
    def drain_order(self) -> int:
        """0 drains first. Microservices drain together, after everything that asks them."""
        if self.service in ("gateway", "play_api"):
            return ("gateway", "play_api").index(self.service)
        return 3 if self.service == "stream_pipeline" else 2


def fleet(instances: Mapping[str, int]) -> list[ProcessSpec]:
    """Every process; `instances` says how many of a service where it is not the default.

    `ValueError` names an unknown service or a count that makes no sense.
    """
    for service, count in instances.items():
        if service not in SERVICES:
            raise ValueError(f"there is no service {service!r}; there are {', '.join(SERVICES)}")
        if not 0 <= count <= 64:
            raise ValueError(f"{service}={count}: write a number from 0 to 64")
    counts = {**DEFAULT_INSTANCES, **instances}
    return [
        ProcessSpec(service, f"{service}-{number}", _module(service), _ENVIRON.get(service, {}))
        for service in SERVICES
        for number in range(1, counts.get(service, 1) + 1)
    ]


def run(module: str, name: str) -> None:
    """This process becomes `name`, set by its environment: what `module` does with a process of its
    own, or the service that it builds. Returns when that has drained."""
    found = importlib.import_module(module)
    if hasattr(found, "run_process"):
        found.run_process(os.environ)
        return
    from chassis.service import run as run_service

    run_service(name, found.build, os.environ)


def _module(service: str) -> str:
    root = f"microservices.{service}" if service in MICROSERVICES else service
    return f"{root}.app"
