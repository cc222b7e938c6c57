"""A histogram of latencies that costs one increment: bucket k counts what took under 2^k us."""

from __future__ import annotations

_BUCKETS = 28  # the last one takes everything from 67 s on


class Latencies:
    """Counts by powers of two. Quantiles are upper bounds, at most twice too high."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * _BUCKETS
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        self.total_s += seconds
        bucket = int(seconds * 1e6).bit_length()
        self.counts[bucket if bucket < _BUCKETS else -1] += 1

    def quantile(self, share: float) -> float:
        """Seconds under which `share` of the observations were; 0 when there are none."""
        wanted = share * sum(self.counts)
        seen = 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return float(2**bucket) / 1e6
        return 0.0

    def p99(self) -> float:
        return self.quantile(0.99)

    def p50(self) -> float:
        return self.quantile(0.5)

    def cumulative(self) -> tuple[tuple[float, int], ...]:
        """(upper bound in seconds, how many took less), as Prometheus wants its buckets."""
        seen, rows = 0, []
        for bucket, count in enumerate(self.counts):
            seen += count
            rows.append((float(2**bucket) / 1e6, seen))
        return tuple(rows)
