"""A quota that many spend from: a token bucket from which whole tokens are leased. Pure."""

from __future__ import annotations

import math

import msgspec


class Quota(msgspec.Struct, frozen=True):
    """`per_s` tokens are refilled each second, up to `burst`; a new bucket is full."""

    per_s: float
    burst: int


class Grant(msgspec.Struct, frozen=True):
    """`tokens` that are the caller's now; with none, when there will be enough, in seconds."""

    tokens: int
    retry_after_s: float


class Bucket:
    """What is in a bucket, at microseconds that only its owner's clock says."""

    __slots__ = ("at_us", "level")

    def __init__(self, quota: Quota, now_us: int) -> None:
        self.level = float(quota.burst)
        self.at_us = now_us

    def lease(self, quota: Quota, wanted: int, least: int, now_us: int) -> Grant:
        """Up to `wanted` tokens, none when there are fewer than `least`."""
        passed_us = max(0, now_us - self.at_us)
        self.level = min(quota.burst, self.level + passed_us * quota.per_s / 1e6)
        self.at_us += passed_us
        tokens = min(wanted, math.floor(self.level))
        if tokens < least:
            return Grant(0, (least - self.level) / quota.per_s)
        self.level -= tokens
        return Grant(tokens, 0.0)
