"""What processes share for a while: values that lapse, and quotas. `open_cache` by URL."""

from __future__ import annotations

from chassis.cache.cache import Cache, open_cache
from chassis.cache.quota import Grant, Quota

__all__ = ["Cache", "Grant", "Quota", "open_cache"]
