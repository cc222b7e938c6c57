"""What the HLS and DASH specifications demand of our documents, beyond what parsers check."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"\r\n]*"|[^",\s]+)(?:,|$)')
_NS = "{urn:mpeg:dash:schema:mpd:2011}"

# Order of children per the schema of ISO/IEC 23009-1 (the ones we use, and their neighbours).
_BASE = (
    "FramePacking",
    "AudioChannelConfiguration",
    "ContentProtection",
    "OutputProtection",
    "EssentialProperty",
    "SupplementalProperty",
    "InbandEventStream",
    "Label",
)
_CHILDREN = {
    "MPD": ("ProgramInformation", "BaseURL", "Location", "ServiceDescription", "Period"),
    "ServiceDescription": ("Scope", "Latency", "ContentSteering"),
    "Period": ("BaseURL", "SegmentTemplate", "AdaptationSet"),
    "AdaptationSet": (
        *_BASE,
        "Accessibility",
        "Role",
        "BaseURL",
        "SegmentTemplate",
        "Representation",
    ),
    "Representation": (*_BASE, "BaseURL", "SegmentTemplate"),
}
_REQUIRED = {
    "MPD": {"profiles", "minBufferTime", "mediaPresentationDuration"},
    "AdaptationSet": {"id", "contentType", "mimeType"},
    "Representation": {"id", "bandwidth"},
    "SegmentTemplate": {"media", "initialization", "duration", "timescale", "startNumber"},
    "ContentProtection": {"schemeIdUri"},
    "BaseURL": set(),
}


def attributes(line: str) -> dict[str, str]:
    """The attribute list of an HLS tag; fails when it is not well-formed (RFC 8216, 4.2)."""
    text = line.partition(":")[2]
    found = _ATTRIBUTE.findall(text)
    assert ",".join(f"{name}={value}" for name, value in found) == text, line
    assert len({name for name, _ in found}) == len(found), f"an attribute twice: {line}"
    return {name: value.strip('"') for name, value in found}


def check_multivariant(text: str) -> None:
    """The demands of RFC 8216 on a multivariant playlist that concern more than one tag."""
    lines = text.splitlines()
    assert lines[0] == "#EXTM3U"
    assert text.endswith("\n")
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    keys = []
    for at, line in enumerate(lines):
        if line.startswith("#EXT-X-MEDIA:"):
            media = attributes(line)
            groups.setdefault((media["TYPE"], media["GROUP-ID"]), []).append(media)
        elif line.startswith("#EXT-X-SESSION-KEY:"):
            key = attributes(line)
            keys.append(tuple(key.get(n) for n in ("METHOD", "URI", "KEYFORMAT")))
        elif line.startswith("#EXT-X-STREAM-INF:"):
            _check_variant(attributes(line), lines[at + 1], groups)
    assert len(set(keys)) == len(keys), "two session keys that no player can tell apart"
    for (kind, _), members in groups.items():
        assert len({one["NAME"] for one in members}) == len(members)
        assert sum(one["DEFAULT"] == "YES" for one in members) == (kind == "AUDIO")


def _check_variant(
    variant: dict[str, str], uri: str, groups: dict[tuple[str, str], list[dict[str, str]]]
) -> None:
    assert not uri.startswith("#")
    assert int(variant["AVERAGE-BANDWIDTH"]) <= int(variant["BANDWIDTH"])
    for kind in ("AUDIO", "SUBTITLES"):
        if kind in variant:
            assert (kind, variant[kind]) in groups, f"{kind} group {variant[kind]} is nowhere"


def check_mpd(document: bytes) -> ET.Element:
    """Element order, required attributes, unique ids and one key a set; the root."""
    root = ET.fromstring(document)
    assert root.tag == f"{_NS}MPD"
    for element in root.iter():
        if not element.tag.startswith(_NS):
            continue
        name = element.tag.removeprefix(_NS)
        assert set(element.attrib) >= _REQUIRED.get(name, set()), f"{name}: {element.attrib}"
        _check_order(name, element)
    sets = list(root.iter(f"{_NS}AdaptationSet"))
    assert len({one.get("id") for one in sets}) == len(sets)
    shown = [one.get("id") for one in root.iter(f"{_NS}Representation")]
    assert len(set(shown)) == len(shown)
    return root


def _check_order(name: str, element: ET.Element) -> None:
    order = _CHILDREN.get(name)
    children = [child.tag.removeprefix(_NS) for child in element if child.tag.startswith(_NS)]
    if order is None:
        assert not children, f"{name} has no children"
        return
    places = [order.index(child) for child in children]
    assert places == sorted(places), f"{name}: {children}"
