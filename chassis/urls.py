"""URLs that may hold a password, taken apart without showing it."""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from chassis.errors import ConfigurationFault

_PLACE = re.compile(r"(?:([A-Za-z0-9._-]+)|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?")
ENCODE = "percent-encode / ? # [ ] and @ in the user and the password"


def parts_of(url: str, *advice: str, what: str) -> SplitResult:
    """The URL's parts; a password that was not encoded would end up in them, and in messages.

    Then it is a `ConfigurationFault` that gives `advice` and nothing of the URL.
    """
    with suppress(ValueError):
        parts = urlsplit(url)
        if "@" not in parts.path + parts.query + parts.fragment:
            return parts
    raise ConfigurationFault(advice, what=what)


def places_of(
    netloc: str, faults: list[str], default_port: int | None = None
) -> tuple[tuple[str, int], ...]:
    """The `host:port[,host:port…]` of a URL behind its user and password, as (host, port).

    What is none is told by its number: it may be a password before which the @ is missing.
    """
    found = []
    for number, text in enumerate(netloc.split(","), 1):
        place = _place_of(text, default_port)
        if place is None:
            faults.append(
                f"address {number}: write host:port, and an @ behind a user and a password"
            )
        else:
            found.append(place)
    return tuple(found)


def _place_of(text: str, default_port: int | None) -> tuple[str, int] | None:
    match = _PLACE.fullmatch(text)
    if match is None:
        return None
    port = int(match[3]) if match[3] else default_port
    if port is None or not 0 < port < 1 << 16:
        return None
    return match[1] or match[2], port
