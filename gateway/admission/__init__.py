"""Admission: who may enter now. Rates by key, and how many are in flight at once."""

from gateway.admission.inflight import InFlight
from gateway.admission.rate import RateLimiter, TokenBucket

__all__ = ["InFlight", "RateLimiter", "TokenBucket"]
