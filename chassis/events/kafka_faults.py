"""The driver's errors as our failure tree."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from chassis.errors import (
    ConfigurationFault,
    Fenced,
    Missing,
    StagedoorError,
    StoreUnavailable,
    Unprocessable,
)
from chassis.events.kafka_url import Cluster

_REFUSED = frozenset(
    (
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    )
)
_TOO_OLD = frozenset((KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE))
_UNKNOWN = frozenset(
    (
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    )
)
_TOO_LARGE = frozenset((KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE))
_FENCED = frozenset(
    (
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError._ASSIGNMENT_LOST,
        KafkaError._FENCED,
        KafkaError._MAX_POLL_EXCEEDED,
    )
)
_OUTDATED = frozenset(
    (
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.NOT_LEADER_FOR_PARTITION,
    )
)
_PASSING = _OUTDATED | frozenset(
    (
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_CONTROLLER,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError._WAIT_COORD,
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
    )
)
_SERIOUS = (
    _REFUSED
    | _TOO_OLD
    | {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._SSL,
        KafkaError._TRANSPORT,
    }
)


class Complaints:
    """What a client's own threads have said is wrong, for calls that learn only of a timeout.

    `note` is the driver's error callback. `refused` is set once the cluster will not have us, or we
    will not have it; `away` while no broker can be reached.
    """

    def __init__(self) -> None:
        self.refused: KafkaError | None = None
        self.away: KafkaError | None = None
        self.last: KafkaError | None = None

    def note(self, error: KafkaError) -> None:
        code = error.code()
        if code in _REFUSED or code in _TOO_OLD:
            self.refused = error
        if code == KafkaError._ALL_BROKERS_DOWN:
            self.away = error
            if self.last is not None and _is_untrusted(self.last):
                self.refused = self.last
        elif code in _SERIOUS:
            self.last = error

    def forget(self) -> None:
        self.refused = self.away = self.last = None


def error_of(fault: KafkaException | KafkaError) -> KafkaError:
    return fault if isinstance(fault, KafkaError) else fault.args[0]


def is_passing(fault: KafkaException | KafkaError) -> bool:
    """Whether it goes away by itself, so that asking again soon is right."""
    error = error_of(fault)
    return error.code() in _PASSING or error.retriable()


def is_outdated(fault: KafkaException | KafkaError) -> bool:
    """Whether the client goes by leaders of before: an administrative one does so for ever."""
    return error_of(fault).code() in _OUTDATED


def translated(
    fault: KafkaException | KafkaError,
    cluster: Cluster,
    doing: str,
    complaints: Complaints | None = None,
) -> StagedoorError:
    """What to raise for `fault`. A refusal by the cluster is a `ConfigurationFault`."""
    error = error_of(fault)
    code = error.code()
    if code in _UNKNOWN:
        return Missing(f"{doing}: {error.str()}: ensure() the topic first")
    if code in _TOO_LARGE:
        return Unprocessable(f"{doing}: {error.str()}")
    if code in _FENCED:
        return Fenced(f"{doing}: {error.str()}")
    if complaints is not None:
        error = complaints.refused or error
    if _is_untrusted(error):
        return ConfigurationFault(
            [
                f"{cluster}: a broker has no certificate that we trust for its name: write"
                " kafkas://…?ca=/its/authority.pem, and the host that the certificate is made out"
                " to, which advertised.listeners must have, too"
            ],
            what="the log URL",
        )
    if error.code() in _REFUSED:
        return ConfigurationFault(
            [f"{cluster} refuses us: {error.str()}; mend the user, the password or their rights"],
            what="the log URL",
        )
    if error.code() in _TOO_OLD:
        return ConfigurationFault(
            [
                f"{cluster} cannot do what we need: {error.str()}; it takes Kafka 3 or later,"
                " and 4 or later for protocol=consumer"
            ],
            what="the log URL",
        )
    return unavailable(cluster, doing, error, complaints)


def unavailable(
    cluster: Cluster, doing: str, error: KafkaError, complaints: Complaints | None = None
) -> StoreUnavailable:
    heard = complaints.last if complaints is not None else None
    why = f"{error.str()} ({heard.str()})" if heard is not None else error.str()
    other = "kafka:// if it speaks no TLS" if cluster.tls else "kafkas:// if it speaks TLS"
    return StoreUnavailable(
        f"{cluster}: {doing}: {why}; is it running, and is it Kafka? write {other}"
    )


def _is_untrusted(error: KafkaError) -> bool:
    """Whether a server's certificate is why: by the driver's words, as it has no code for it."""
    return error.code() == KafkaError._SSL and "certificate verify failed" in error.str()
