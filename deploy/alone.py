"""One service alone, in the foreground: how an orchestrator runs it, and what it needs before.

Everything comes from `STAGEDOOR_…` in the environment. `prepare` is what the supervisor of
`stagedoor up` does before it starts processes; run it once, before the first of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import msgspec

from chassis import config
from chassis.clock import Clock
from chassis.errors import ConfigurationFault
from chassis.service import ProcessSettings
from deploy import processes
from deploy.catalogue import fill_when_empty
from deploy.home import Home
from deploy.processes import SERVICES, ProcessSpec, fleet

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


class Prepared(msgspec.Struct, frozen=True):
    """What there is now."""

    keyring: str
    bucket: str
    catalogue: str


def run(name: str) -> None:
    """Serves until SIGTERM, and drains. `ConfigurationFault` when there is no such service."""
    spec = _spec(name)
    for variable, value in spec.environ.items():
        os.environ.setdefault(variable, value)
    processes.run(spec.module, name)


async def prepare(environ: Mapping[str, str], clock: Clock, say: Callable[[str], None]) -> Prepared:
    """The keyring, the bucket and the catalogue, each unless it is there already."""
    settings = config.load(ProcessSettings, environ)
    home = Home(settings.root)
    home.prepare(clock)
    try:
        if settings.objects.startswith("s3://"):
            await _make_bucket(settings.objects, environ, clock)
        told: list[str] = []
        await fill_when_empty(settings, clock, told.append)
    finally:
        home.close()
    done = Prepared(
        keyring=str(home.keyring_file),
        bucket=settings.objects_url,
        catalogue=" ".join(told) or "catalogue: there already",
    )
    for line in (f"keyring: {done.keyring}", f"objects: {done.bucket}", done.catalogue):
        say(line)
    return done


async def _make_bucket(url: str, environ: Mapping[str, str], clock: Clock) -> None:
    from deploy.servers import make_bucket

    missing = [f"{name} is not set" for name in KEYS if not environ.get(name)]
    if missing:
        raise ConfigurationFault(missing, what="the object store's keys")
    await make_bucket(url, environ, clock)


def _spec(name: str) -> ProcessSpec:
    if name not in SERVICES:
        raise ConfigurationFault(
            [f"there is no service {name!r}; there are {', '.join(SERVICES)}"], what="the service"
        )
    return next(spec for spec in fleet({name: 1}) if spec.service == name)
