"""The URL of a Kafka cluster, and the driver's settings that follow from it.

    kafka://[user:password@]host:port[,host:port…][?option=value&…]     (kafkas:// speaks TLS)

| option | default | |
|---|---|---|
| `prefix` | none | every topic and group begins with it, so that systems can share a cluster |
| `protocol` | `classic` | `consumer` for groups that the broker assigns (KIP-848, Kafka 4) |
| `compression` | `lz4` | of what is produced: `none`, `gzip`, `snappy`, `lz4` or `zstd` |
| `wait_s` | 10 | how long a call waits for the cluster before it is `StoreUnavailable` |
| `session_s` | 6 | how long a silent member keeps its partitions (`classic` only) |
| `ca` | the system's | a file of certificates to trust (`kafkas` only) |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

import msgspec

from chassis.errors import ConfigurationFault
from chassis.urls import ENCODE, parts_of, places_of

EXAMPLE = "kafka://127.0.0.1:9092"
_WHAT = "the log URL"
_MILLIS = 1000
_SOCKET_S = 10.0
_BEATS_A_SESSION = 12
_MAX_POLL_S = 300.0
_FETCH_BYTES = 16 << 20

Settings = dict[str, Any]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may follow the question mark; see the head of this file."""

    prefix: str = ""
    protocol: Literal["classic", "consumer"] = "classic"
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    wait_s: float = 10.0
    session_s: float = 6.0
    ca: str = ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the brokers are and how to speak to them. Its text never holds the password."""

    brokers: str
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)
    options: Options = field(default_factory=Options)

    def __str__(self) -> str:
        return f"Kafka at {self.brokers}"

    def client(self) -> Settings:
        """Settings of every client; what the driver would print goes nowhere."""
        settings: Settings = {
            "bootstrap.servers": self.brokers,
            "client.id": "stagedoor",
            "log_level": 0,
            "socket.timeout.ms": round(min(_SOCKET_S, self.options.wait_s) * _MILLIS),
            "socket.connection.setup.timeout.ms": 5_000,
            "socket.keepalive.enable": True,
            "socket.nagle.disable": True,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            "allow.auto.create.topics": False,
            "security.protocol": ("SASL_" if self.user else "")
            + ("SSL" if self.tls else "PLAINTEXT"),
        }
        if self.user:
            settings |= {
                "sasl.mechanism": "PLAIN",
                "sasl.username": self.user,
                "sasl.password": self.password,
            }
        if self.options.ca:
            settings["ssl.ca.location"] = self.options.ca
        return settings

    def admin(self) -> Settings:
        settings = self.client()
        del settings["allow.auto.create.topics"]
        return settings

    def producer(self) -> Settings:
        return self.admin() | {
            "enable.idempotence": True,
            "partitioner": "murmur2",
            "compression.type": self.options.compression,
            "linger.ms": 5,
            "delivery.timeout.ms": round(self.options.wait_s * _MILLIS),
            "message.max.bytes": 1 << 20,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1 << 20,
        }

    def consumer(self, group: str) -> Settings:
        settings = self.client() | {
            "group.id": self.options.prefix + group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "check.crcs": True,
            "fetch.wait.max.ms": 100,
            "fetch.max.bytes": _FETCH_BYTES,
            "queued.max.messages.kbytes": _FETCH_BYTES >> 10,
            "max.poll.interval.ms": round(_MAX_POLL_S * _MILLIS),
        }
        if self.options.protocol == "consumer":
            return settings | {"group.protocol": "consumer"}
        session_ms = round(self.options.session_s * _MILLIS)
        return settings | {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": session_ms // _BEATS_A_SESSION,
        }


def cluster_of(url: str) -> Cluster:
    """What `url` says; `ConfigurationFault` with every fault at once."""
    parts = parts_of(url, ENCODE, f"for example {EXAMPLE}", what=_WHAT)
    login, _, brokers = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    faults: list[str] = []
    places_of(brokers, faults)
    if parts.path.strip("/") or parts.fragment:
        faults.append("nothing may stand between host:port and the question mark")
    if login and not (user and password):
        faults.append("write user:password before the @, percent-encoded, or neither")
    options, wrong = _options(parts.query)
    faults += wrong
    if options.ca and parts.scheme != "kafkas":
        faults.append("ca: needs kafkas://")
    if faults:
        raise ConfigurationFault([*faults, f"for example {EXAMPLE}"], what=_WHAT)
    return Cluster(brokers, parts.scheme == "kafkas", unquote(user), unquote(password), options)


def _options(query: str) -> tuple[Options, list[str]]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        return msgspec.convert(dict(pairs), Options, strict=False), []
    except (msgspec.ValidationError, ValueError) as fault:
        known = ", ".join(Options.__struct_fields__)
        return Options(), [f"the options: {fault}; there are {known}"]
