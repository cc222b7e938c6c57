"""URLs that may hold a password, taken apart without showing it."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from chassis.errors import ConfigurationFault

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
