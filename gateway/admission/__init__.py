"""Admission: who may enter now. Rates by key, and how many are in flight at once."""

from gateway.admission.inflight import InFlight
from gateway.admission.rate import RateLimiter, TokenBucket
from gateway.admission.refills import Refills
from gateway.admission.shared import SharedLimiter, Sharing

__all__ = ["InFlight", "RateLimiter", "Refills", "SharedLimiter", "Sharing", "TokenBucket"]
