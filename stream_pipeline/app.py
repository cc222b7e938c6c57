"""The composition root of the pipeline: two groups, so that neither sink stalls the other."""

from __future__ import annotations

import os

from chassis.config import load
from chassis.contracts.events import PLAY_LIFECYCLE, PLAYBACK_BEACON
from chassis.events import Log, Topic, open_log
from chassis.events.measures import tell_of_log
from chassis.service import Chassis, Service
from chassis.storage import Objects, Tables, open_objects, open_tables
from stream_pipeline.checkpoint import Checkpoint
from stream_pipeline.dead_letter import SUFFIX, DeadLetters
from stream_pipeline.measures import Measures, tell_of_dead_letters
from stream_pipeline.pipeline import Group
from stream_pipeline.settings import StreamSettings
from stream_pipeline.sinks import Sink
from stream_pipeline.sinks.archive import ArchiveSink
from stream_pipeline.sinks.views import ViewSink

CONSUMED = (PLAYBACK_BEACON, PLAY_LIFECYCLE)


async def build(
    chassis: Chassis,
    *,
    settings: StreamSettings | None = None,
    log: Log | None = None,
    tables: Tables | None = None,
    objects: Objects | None = None,
) -> Service:
    settings = settings or load(StreamSettings, os.environ, prefix="STAGEDOOR_STREAM")
    clock, telemetry, urls = chassis.clock, chassis.telemetry, chassis.settings
    log = log or open_log(urls.log_url, clock)
    tables = tables or open_tables(urls.views_url)
    objects = objects or open_objects(urls.objects_url)
    await log.ensure(*(Topic(name) for name in CONSUMED))
    await log.ensure(*(Topic(name + SUFFIX, partitions=1) for name in CONSUMED))
    views = ViewSink(
        tables,
        flush_s=settings.flush_s,
        flush_rows=settings.flush_rows,
        cached_rows=settings.cached_rows,
        half_life_s=settings.half_life_s,
    )
    await views.prepare()
    archive = ArchiveSink(objects, settings.limits())
    await archive.prepare(clock.entropy(8).hex())
    measures, dead_letters = Measures(telemetry.metrics), DeadLetters(log)
    tell_of_dead_letters(telemetry.metrics, dead_letters)
    tell_of_log(telemetry.metrics, log)

    def group(sink: Sink, letters: DeadLetters | None) -> Group:
        numbers = measures.group(sink.group)
        consumer = log.consumer(sink.group, CONSUMED)
        checkpoint = Checkpoint(log, consumer, sink, letters, numbers, clock)
        return Group(sink.group, checkpoint, numbers, clock, telemetry.log)

    state, archiving = group(views, dead_letters), group(archive, None)
    return Service(
        chassis.api(),
        background=[state.run, archiving.run],
        closing=[objects.close, tables.close, log.close, archiving.close, state.close],
    )
