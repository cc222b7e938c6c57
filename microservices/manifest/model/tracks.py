"""Audio and caption tracks: their names, labels and rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from chassis.contracts.common import Track

_AUDIO_KBPS = {1: 64, 2: 128, 6: 384}
_AUDIO_CODECS = {"aac": "mp4a.40.2", "ec-3": "ec-3", "ac-3": "ac-3", "opus": "Opus"}
_LANGUAGES = {
    "en": "English",
    "es": "Español",
    "fr": "Français",
    "de": "Deutsch",
    "it": "Italiano",
    "pt": "Português",
    "ja": "日本語",
    "ko": "한국어",
}
_ROLES = {"sdh": "SDH", "description": "audio description", "commentary": "commentary"}


class Named(NamedTuple):
    """A track under the name that its playlist and files have."""

    name: str
    track: Track
    label: str


def named(kind: str, tracks: Sequence[Track]) -> tuple[Named, ...]:
    """The tracks under unique names such as `audio-en` and `text-en-sdh`, and unique labels."""
    seen: Counter[tuple[str, str]] = Counter()
    return tuple(_named(kind, track, seen) for track in tracks)


def _named(kind: str, track: Track, seen: Counter[tuple[str, str]]) -> Named:
    same = (track.language, track.role)
    seen[same] += 1
    role = "" if track.role == "main" else f"-{track.role}"
    name, label = f"{kind}-{track.language}{role}", _label(track)
    if seen[same] > 1:
        name, label = f"{name}-{seen[same]}", f"{label} {seen[same]}"
    return Named(name, track, label)


def _label(track: Track) -> str:
    language = _LANGUAGES.get(track.language, track.language)
    role = _ROLES.get(track.role, track.role)
    return language if track.role == "main" else f"{language} ({role})"


def audio_kbps(track: Track) -> int:
    return _AUDIO_KBPS.get(track.channels, 128)


def audio_codec(track: Track) -> str:
    return _AUDIO_CODECS.get(track.codec, "mp4a.40.2")
