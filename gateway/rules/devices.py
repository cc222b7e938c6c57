"""The device class of a caller, from what it says of itself.

Good enough to route by, never to decide rights by: a header can say anything.
"""

from __future__ import annotations

from gateway.rules.model import Device
from gateway.rules.route import Headers

EXPLICIT = b"x-device-type"
_KNOWN: dict[bytes, Device] = {
    b"tv": "tv",
    b"console": "console",
    b"phone": "phone",
    b"tablet": "tablet",
    b"desktop": "desktop",
    b"bot": "bot",
}
_WORDS: tuple[tuple[bytes, Device], ...] = (
    (b"bot", "bot"),
    (b"crawler", "bot"),
    (b"spider", "bot"),
    (b"playstation", "console"),
    (b"xbox", "console"),
    (b"nintendo", "console"),
    (b"smart-tv", "tv"),
    (b"smarttv", "tv"),
    (b"googletv", "tv"),
    (b"appletv", "tv"),
    (b"web0s", "tv"),
    (b"webos", "tv"),
    (b"tizen", "tv"),
    (b"roku", "tv"),
    (b"aft", "tv"),
    (b"bravia", "tv"),
    (b"ipad", "tablet"),
    (b"tablet", "tablet"),
    (b"iphone", "phone"),
    (b"mobile", "phone"),
    (b"android", "tablet"),
    (b"windows nt", "desktop"),
    (b"macintosh", "desktop"),
    (b"x11", "desktop"),
    (b"cros", "desktop"),
)
"""The first word that a User-Agent contains decides; Android without `mobile` is a tablet."""


def device_class(headers: Headers) -> Device:
    """`x-device-type` when it names a class, else a guess from User-Agent, else `other`."""
    agent = b""
    for name, value in headers:
        if name == EXPLICIT and value.lower() in _KNOWN:
            return _KNOWN[value.lower()]
        if name == b"user-agent":
            agent = value.lower()
    return next((device for word, device in _WORDS if word in agent), "other")
