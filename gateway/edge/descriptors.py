"""How many connections the process's file descriptors are enough for.

Where none are left the loop closes what it accepts without a word to anybody, and no instance can
be connected to. So listeners refuse, and count, before that.
"""

from __future__ import annotations

import resource

_LEAST = 32


def most_connections(wanted: int) -> int:
    """`wanted`, or fewer: a tenth is left for instances, files and bursts. Raises the process's
    soft limit to its hard one, which is there for servers to do so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, hard - max(_LEAST, hard // 10)))
