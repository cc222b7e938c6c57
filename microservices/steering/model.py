"""Which CDN pathway a session should use, and in what order to fall back.

Ranking is weighted rendezvous hashing (Schindelhauer and Schomaker, 2005): each pathway's score is
`-weight / ln(u)` with `u` drawn by a hash of session and pathway. Over all sessions a pathway comes
first in proportion to its weight; one session keeps its order for as long as the weights stand;
and when one pathway's health changes, only the sessions that move to or from it are disturbed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping

import msgspec

from chassis.contracts.streams import PathwayHealth, PathwayState
from chassis.errors import BadRequest, NotFound

TTL_S = 300
UNSTEADY_TTL_S = 30
MOST_WEIGHT = 1_000
_EUROPE = frozenset(("GB", "IE", "FR", "DE", "ES", "IT", "NL", "SE", "PL", "AT", "CH", "BE"))
_ASIA = frozenset(("JP", "KR", "IN", "AU", "NZ", "SG"))
_LONGEST_SID = 200


class Pathway(msgspec.Struct, frozen=True):
    """A CDN: its share of sessions, where and on which networks it is better or worse."""

    name: str
    weight: int
    countries: frozenset[str] = frozenset()
    home: float = 1.0
    """What the weight is multiplied by in `countries`."""
    cellular: float = 1.0
    health: PathwayHealth = "healthy"


DEFAULTS: Mapping[str, Pathway] = {
    one.name: one
    for one in (
        Pathway("cdn-a", 50),
        Pathway("cdn-b", 30, _EUROPE, home=3.0),
        Pathway("cdn-c", 20, _ASIA, home=5.0, cellular=0.5),
    )
}

_HEALTH_SHARES: Mapping[PathwayHealth, float] = {"healthy": 1.0, "degraded": 0.1, "down": 0.0}


class Viewer(msgspec.Struct, frozen=True):
    """What ranking knows of a session."""

    session_id: str
    country: str = ""
    network: str = ""


class SteeringManifest(msgspec.Struct, frozen=True):
    """The JSON of HLS content steering, version 1; DASH players read the same."""

    version: int = msgspec.field(name="VERSION")
    ttl: int = msgspec.field(name="TTL")
    reload_uri: str = msgspec.field(name="RELOAD-URI")
    pathways: tuple[str, ...] = msgspec.field(name="PATHWAY-PRIORITY")


def rank(pathways: Iterable[Pathway], viewer: Viewer) -> tuple[str, ...]:
    """Pathways that are up, best first for this viewer; all of them when none is up."""
    known = list(pathways)
    up = [one for one in known if _weight(one, viewer) > 0] or [
        msgspec.structs.replace(one, health="healthy", weight=max(1, one.weight)) for one in known
    ]
    return tuple(one.name for one in sorted(up, key=lambda one: -_score(one, viewer)))


def ttl_s(pathways: Iterable[Pathway]) -> int:
    """How long an order may be kept: shorter while anything is not healthy."""
    steady = all(one.health == "healthy" for one in pathways)
    return TTL_S if steady else UNSTEADY_TTL_S


def _weight(pathway: Pathway, viewer: Viewer) -> float:
    weight = pathway.weight * _HEALTH_SHARES[pathway.health]
    if viewer.country in pathway.countries:
        weight *= pathway.home
    return weight * pathway.cellular if viewer.network == "cellular" else weight


def _score(pathway: Pathway, viewer: Viewer) -> float:
    digest = hashlib.blake2b(f"{viewer.session_id}\0{pathway.name}".encode(), digest_size=8)
    drawn = (int.from_bytes(digest.digest(), "big") + 1) / (2**64 + 2)
    return -_weight(pathway, viewer) / math.log(drawn)


def viewer_of(sid: str) -> Viewer:
    """What a steering path says: `session~country~network`, the last two optional."""
    parts = sid.split("~")
    if len(sid) > _LONGEST_SID or not 1 <= len(parts) <= 3 or not parts[0]:
        raise NotFound("this is no steering session", code="no_such_session")
    return Viewer(*parts)


def changed(pathway: Pathway, state: PathwayState) -> Pathway:
    """The pathway in its new state; `BadRequest` when that cannot be meant."""
    weight = pathway.weight if state.weight is None else state.weight
    if not 0 <= weight <= MOST_WEIGHT:
        raise BadRequest(f"weight must be from 0 to {MOST_WEIGHT}")
    return msgspec.structs.replace(pathway, health=state.health, weight=weight)
