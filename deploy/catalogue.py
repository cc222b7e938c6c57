"""The catalogue of the system on this machine: filled at the first start, or when told to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import uvloop

from chassis import config
from chassis.clock import SYSTEM, Clock
from chassis.service import ProcessSettings
from chassis.storage import open_tables
from chassis.storage.generations import generation
from deploy.ingest import FILMS, IngestReport, ingest
from microservices.catalog.store import GENERATION, ROWS


def run_process(environ: Mapping[str, str]) -> None:
    """As a job of the supervisor: `fill_when_empty`, telling on standard output what it did."""
    uvloop.run(fill_when_empty(config.load(ProcessSettings, environ), SYSTEM, _tell))


async def fill_when_empty(
    settings: ProcessSettings, clock: Clock, say: Callable[[str], None]
) -> None:
    """Ingests the films that come with Stagedoor, unless there is a catalogue already."""
    if await _is_empty(settings.tables_url("catalog")):
        report = await fill(settings, FILMS, clock, lambda done: None)
        say(f"catalogue: {report.titles:,} titles from {report.rows:,} rows of {report.source}")


async def fill(
    settings: ProcessSettings, source: Path, clock: Clock, progress: Callable[[float], None]
) -> IngestReport:
    """Ingests `source`; `progress` hears the share that is done."""
    return await ingest(
        source,
        settings.tables_url("catalog"),
        settings.tables_url("rights"),
        clock,
        lambda done, total: progress(done / max(1, total)),
    )


async def _is_empty(url: str) -> bool:
    """Whether no ingest was ever completed: one that was cut short raised no generation."""
    tables = open_tables(url)
    try:
        await tables.prepare(*ROWS)
        return await generation(tables, GENERATION) == 0
    finally:
        await tables.close()


def _tell(said: str) -> None:
    sys.stdout.write(f"{said}\n")
