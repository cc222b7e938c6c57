"""Code that was changed under a running system.

Processes are forked from the zygote, which has loaded the code as it was at the start: one that
loads the rest of a newer version finds that the two do not fit, however often it is started.
"""

from __future__ import annotations

import os
import sys

from chassis.errors import StagedoorError


def outgrown(fault: Exception, began: float) -> StagedoorError | None:
    """What to say of `fault` when loaded code was changed since `began`, a UNIX time."""
    newer = [file for file in _loaded() if _changed(file) > began]
    if not newer:
        return None
    return StagedoorError(
        f"{type(fault).__name__}: {fault}; {min(newer)} was changed since the system was started:"
        " restart the whole system (`stagedoor down`, then start it again)"
    )


def _loaded() -> list[str]:
    modules = list(sys.modules.values())
    return [file for module in modules if (file := getattr(module, "__file__", None))]


def _changed(file: str) -> float:
    """When, as a UNIX time; 0 for a file that is gone."""
    try:
        return os.stat(file).st_mtime  # noqa: PTH116  # of some thousand files
    except OSError:
        return 0.0
