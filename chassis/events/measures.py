"""What a spool and a log count, told as metrics."""

from __future__ import annotations

from collections.abc import Callable

from chassis.events.log import Log
from chassis.events.spool import Spool
from chassis.telemetry.metrics import GaugeRead, Metrics


def tell_of_spool(metrics: Metrics, spool: Spool) -> None:
    """Registers the process's event metrics, read from the spool's own counters at scrape."""
    metrics.counted(
        "events_offered_total", "Events given to us.", read=_alone(lambda: spool.offered)
    )
    metrics.counted(
        "events_acked_total", "Events durable and answered for.", read=_alone(lambda: spool.acked)
    )
    metrics.counted(
        "events_dropped_total", "Events refused or not written.", read=_alone(lambda: spool.dropped)
    )
    metrics.counted(
        "events_delivered_total", "Events taken by the log.", read=_alone(lambda: spool.delivered)
    )
    metrics.gauge("events_spooled", "Durable, not in the log.", read=_alone(lambda: spool.waiting))
    metrics.gauge("spool_bytes", "Disk in use by the spool.", read=_alone(lambda: spool.used_bytes))


def tell_of_log(metrics: Metrics, log: Log) -> None:
    """Registers the metrics of one opening of a log, read from its own counters at scrape."""
    counts = log.counts
    for name, about, read in (
        ("log_produced_total", "Records the log acknowledged.", lambda: counts.produced),
        ("log_produce_failures_total", "Not acknowledged.", lambda: counts.produce_failures),
        ("log_consumed_total", "Records read from the log.", lambda: counts.consumed),
        ("log_rebalances_total", "Changes of what a member owns.", lambda: counts.rebalances),
    ):
        metrics.counted(name, about, read=_alone(read))


def _alone(value: Callable[[], float]) -> GaugeRead:
    return lambda: [((), value())]
