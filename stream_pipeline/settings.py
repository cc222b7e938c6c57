"""What the pipeline reads from `STAGEDOOR_STREAM_…`."""

from __future__ import annotations

import msgspec

from stream_pipeline.sinks.segment import Limits


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Rows are flushed every `flush_s`; an archive object is made at the first of its limits."""

    flush_s: float = 0.2
    flush_rows: int = 5_000
    cached_rows: int = 10_000
    half_life_s: float = 6 * 3600.0
    roll_s: float = 5.0
    roll_bytes: int = 64 << 20
    roll_records: int = 500_000

    def limits(self) -> Limits:
        return Limits(self.roll_bytes, self.roll_records, self.roll_s)
