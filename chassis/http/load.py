"""What an instance says of its own load in an answer's head. Pure: a field's value in, a part out.

The field is that of ORCA (xds.data.orca.v3, Envoy's orca_parser): a form, a blank and metrics, as
`TEXT cpu_utilization=0.3, application_utilization=0.8` or `JSON {"cpu_utilization": 0.3}`. Of them
the application's own measure counts where there is one, else the processor's (gRFC A58 and A114).
An answer is never worse for what stands there: what cannot be meant is not said.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

from chassis.contracts.wire import NOT_DECODED

LOAD_HEADER: Final = b"endpoint-load-metrics"
LOAD_FIELDS: Final = frozenset({LOAD_HEADER, LOAD_HEADER + b"-bin", LOAD_HEADER + b"-json"})
"""All forms in which it is sent; the others are not read."""
LONGEST: Final = 4096
"""Bytes of a report; longer ones are not read."""
MOST: Final = 10.0
"""Above one an instance is overloaded; above this it was measured in something else, as percent."""

_METRIC = re.compile(r"(?:^|,)[ \t]*(\w+_utilization)[ \t]*[=:]([^,]*)")
_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def utilisation(report: bytes) -> float | None:
    """How busy the sender is: 0 idle, 1 full or overloaded; None where it does not say."""
    return _read(report) if len(report) <= LONGEST else None


@lru_cache(maxsize=512)
def _read(report: bytes) -> float | None:
    """Remembered: an instance says the same in many answers, rounded as such figures are."""
    form, _, text = report.decode("latin-1").partition(" ")
    if form == "TEXT":
        metrics: dict[str, object] = dict(_METRIC.findall(text))
    elif form == "JSON":
        metrics = _json(text)
    else:
        return None
    own = _part(metrics.get("application_utilization", metrics.get("applicationUtilization")))
    return own or _part(metrics.get("cpu_utilization", metrics.get("cpuUtilization")))


def _json(text: str) -> dict[str, object]:
    """Protobuf's JSON: its names may come in either case, and numbers as text."""
    try:
        read = msgspec.json.decode(text)
    except NOT_DECODED:
        return {}
    return read if isinstance(read, dict) else {}


def _part(said: object) -> float | None:
    if isinstance(said, str):
        number = said.strip()
        said = float(number) if _NUMBER.fullmatch(number) else None
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said <= MOST:
        return None
    return min(float(said), 1.0)
