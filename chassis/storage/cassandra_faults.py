"""What the driver's exceptions mean to callers. Never a password in a message."""

from __future__ import annotations

import cassandra
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException

from chassis.errors import (
    ConfigurationFault,
    Faulty,
    StagedoorError,
    StoreUnavailable,
    Unprocessable,
)
from chassis.storage.cassandra_url import Address

_TOO_LARGE = (
    "Batch too large",
    "Mutation of",
    "Key length of",
    "Key may not be empty",
    "exceeds maximum",
)
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
_LOST = (
    cassandra.OperationTimedOut,
    cassandra.WriteTimeout,
    cassandra.WriteFailure,
    ConnectionException,
)


class OutcomeUnknown(StoreUnavailable):
    """A write whose answer never came: it may have happened, or may still."""


def translated(fault: BaseException, address: Address) -> BaseException:
    """Our failure for the driver's; what is neither is our own mistake."""
    if isinstance(fault, StagedoorError) or not isinstance(fault, Exception):
        return fault
    if isinstance(fault, NoHostAvailable):
        return _no_host(fault, address)
    if isinstance(fault, cassandra.AuthenticationFailed):
        return _refused(address)
    if isinstance(fault, cassandra.Unauthorized):
        return ConfigurationFault([f"{address}: {_said(fault)}"], what="the tables URL's user")
    if isinstance(fault, cassandra.InvalidRequest):
        return _invalid(fault, address)
    if isinstance(fault, _LOST):
        return OutcomeUnknown(f"{address}: no answer in time: {_said(fault)}; see whether it runs")
    if isinstance(fault, cassandra.DriverException | cassandra.RequestExecutionException):
        return StoreUnavailable(f"{address}: {_said(fault)}")
    if hasattr(fault, "summary"):  # a message of the server's that has no exception of its own
        return StoreUnavailable(f"{address}: the server says: {fault.summary}")
    return Faulty(f"{address}: {fault!r}")


def _no_host(fault: NoHostAvailable, address: Address) -> StagedoorError:
    reasons = list(fault.errors.values()) if isinstance(fault.errors, dict) else []
    if any(isinstance(one, cassandra.AuthenticationFailed) for one in reasons):
        return _refused(address)
    if any(isinstance(one, cassandra.UnsupportedOperation) for one in reasons):
        return _no_cassandra(address, reasons[0])
    if reasons and all(_UNTRUSTED in str(one) for one in reasons):
        return _untrusted(address)
    why = f": {_said(reasons[0])}" if reasons else ""
    other = "cassandra:// if it speaks no TLS" if address.tls else "cassandras:// if it speaks TLS"
    return StoreUnavailable(
        f"{address}: no node can be reached{why}; see whether Cassandra runs and the port is right;"
        f" write {other}"
    )


def _refused(address: Address) -> ConfigurationFault:
    who = f"the user {address.user!r}" if address.user else "a caller without a user"
    return ConfigurationFault(
        [f"{address}: {who} is refused: write cassandra://user:password@host:port/keyspace"],
        what="the tables URL",
    )


def _untrusted(address: Address) -> ConfigurationFault:
    return ConfigurationFault(
        [
            f"{address}: no node has a certificate that we trust for its name: write"
            " cassandras://…?ca=/its/authority.pem, and the hosts as their certificates have them"
        ],
        what="the tables URL",
    )


def _no_cassandra(address: Address, why: Exception) -> ConfigurationFault:
    return ConfigurationFault(
        [f"{address}: this is no Cassandra 4.0 or newer: {_said(why)}"], what="the tables URL"
    )


def _invalid(fault: cassandra.InvalidRequest, address: Address) -> StagedoorError:
    said = _said(fault)
    if "Batch too large" in said:
        return Unprocessable(
            "these rows are too large to be put together: put fewer of them at once, or each by"
            " itself, or raise batch_size_fail_threshold of the server"
        )
    if any(part in said for part in _TOO_LARGE):
        return Unprocessable(f"a value that cannot be stored: {said}")
    return Faulty(
        f"{address}: {said}: a table that was dropped is made again, empty, when the process that"
        " keeps it starts (by prepare(), which must be given every row type)"
    )


def _said(fault: BaseException) -> str:
    text = str(fault)
    _, quote, message = text.partition('message="')
    return message.rstrip('"') if quote else text or type(fault).__name__
