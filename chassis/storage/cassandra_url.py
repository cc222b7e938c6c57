"""What a `cassandra://` URL says, or a `cassandras://` one, for TLS."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from chassis.errors import ConfigurationFault
from chassis.urls import ENCODE, parts_of, places_of

EXAMPLE = "cassandra://host:9042[,host:9042]/keyspace[?dc=datacenter1&replication=3]"
_WHAT = "the tables URL"
_KEYSPACE = re.compile(r"[a-z][a-z0-9_]{0,47}\Z")
_DC = re.compile(r"[A-Za-z0-9_.-]{1,48}\Z")
_PORT = 9042


@dataclass(frozen=True, slots=True)
class Address:
    """Where a keyspace is and how it is used.

    `replication` is how many copies the keyspace must have in `dc`; None takes what is there, and
    one when the keyspace has to be made. `ca` is a file of authorities to trust, "" the system's.
    """

    hosts: tuple[tuple[str, int], ...]
    keyspace: str
    dc: str = "datacenter1"
    replication: int | None = None
    timeout_s: float = 5.0
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ca: str = ""

    def __str__(self) -> str:
        """For messages: without the password."""
        return ", ".join(f"{host}:{port}" for host, port in self.hosts) + f"/{self.keyspace}"


def address_of(url: str) -> Address:
    """`ConfigurationFault` lists everything that is wrong with `url`, without its password."""
    parts = parts_of(url, ENCODE, f"write {EXAMPLE}", what=_WHAT)
    userinfo, _, netloc = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    keyspace = unquote(parts.path).strip("/")
    faults: list[str] = []
    hosts = places_of(netloc, faults, _PORT)
    if not _KEYSPACE.match(keyspace):
        faults.append(f"the keyspace {keyspace!r} must be a short lower-case name")
    if not _DC.match(options.get("dc", "dc")):
        faults.append(f"dc={options['dc']!r} is no name of a data centre")
    known = ("dc", "replication", "timeout_s", "ca")
    faults += [
        f"unknown option {one!r}; there are {', '.join(known)}"
        for one in options
        if one not in known
    ]
    tls = parts.scheme == "cassandras"
    if "ca" in options and not tls:
        faults.append("ca: needs cassandras://")
    replication = _number(options, "replication", faults)
    timeout_s = _number(options, "timeout_s", faults)
    if parts.fragment:
        faults.append("it ends in a fragment (#…)")
    if faults:
        raise ConfigurationFault([*faults, f"write {EXAMPLE}"], what=_WHAT)
    return Address(
        hosts,
        keyspace,
        options.get("dc", "datacenter1"),
        int(replication) if replication is not None else None,
        timeout_s or 5.0,
        unquote(user),
        unquote(password),
        tls,
        options.get("ca", ""),
    )


def _number(options: dict[str, str], name: str, faults: list[str]) -> float | None:
    text = options.get(name)
    if text is None:
        return None
    whole = name == "replication"
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = 0
    if not 0 < value < 3600:
        faults.append(f"{name}={text!r} must be a {'whole ' if whole else ''}number above 0")
    return value
