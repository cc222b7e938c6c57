"""What a spool counts, told as metrics."""

from __future__ import annotations

from collections.abc import Callable

from chassis.events.spool import Spool
from chassis.telemetry.metrics import GaugeRead, Metrics


def tell_of_spool(metrics: Metrics, spool: Spool) -> None:
    """Registers the process's event metrics, read from the spool's own counters at scrape."""

    def of(value: Callable[[], float]) -> GaugeRead:
        return lambda: [((), value())]

    metrics.counted("events_offered_total", "Events given to us.", read=of(lambda: spool.offered))
    metrics.counted(
        "events_acked_total", "Events durable and answered for.", read=of(lambda: spool.acked)
    )
    metrics.counted(
        "events_dropped_total", "Events refused or not written.", read=of(lambda: spool.dropped)
    )
    metrics.counted(
        "events_delivered_total", "Events taken by the log.", read=of(lambda: spool.delivered)
    )
    metrics.gauge("events_spooled", "Durable, not in the log.", read=of(lambda: spool.waiting))
    metrics.gauge("spool_bytes", "Disk in use by the spool.", read=of(lambda: spool.used_bytes))
