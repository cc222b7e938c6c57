"""Takes addresses out of what build tools print: they name package hosts that are nobody's news."""

from __future__ import annotations

import re

_MASKS = (
    (re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>),]+", re.IGNORECASE), "(address)"),
    (re.compile(r"\b(lookup|host:?|dial \w+:?) (?!\()[\w-]+(\.[\w-]+)+(:\d+)?"), r"\1 (address)"),
    (re.compile(r"\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b"), "(address)"),
    (re.compile(r"\[[0-9a-f:]*:[0-9a-f:]+\](:\d+)?", re.IGNORECASE), "(address)"),
)


def masked(text: str) -> str:
    """`text` without URLs, IP addresses and the names of hosts that were looked up."""
    for pattern, instead in _MASKS:
        text = pattern.sub(instead, text)
    return text
