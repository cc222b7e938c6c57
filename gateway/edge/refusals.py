"""Leaves of `RequestFailure` that only an HTTP edge can meet: the request is refused unread."""

from __future__ import annotations

from chassis.errors import NotFound, RequestFailure


class MethodNotAllowed(RequestFailure):
    """CONNECT, and TRACE, where no rule lists them."""

    status = 405
    code = "method_not_allowed"


ALLOW = (b"allow", b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")
"""What an answer of 405, and one to `OPTIONS *`, says of methods; rules may take others."""


class SlowHead(RequestFailure):
    """The head took too long."""

    status = 408
    code = "request_timeout"


class SlowBody(SlowHead):
    """The body comes below the least rate."""


class BodyTooLarge(RequestFailure):
    """More body than the listener or the rule allows."""

    status = 413
    code = "body_too_large"


class TargetTooLong(RequestFailure):
    """A longer request target than the listener allows."""

    status = 414
    code = "target_too_long"


class ExpectationFailed(RequestFailure):
    """An `Expect` other than `100-continue`."""

    status = 417
    code = "expectation"


class HeadTooLarge(RequestFailure):
    """More header bytes or fields than the listener allows."""

    status = 431
    code = "head_too_large"


class NotImplementedHere(RequestFailure):
    """A method or a transfer coding that the edge does not know."""

    status = 501
    code = "not_implemented"


class VersionNotSupported(RequestFailure):
    """Anything but HTTP/1.1 and HTTP/1.0."""

    status = 505
    code = "http_version"


class NoRoute(NotFound):
    """No rule matches the request."""

    code = "no_route"
    outcome = "no_route"
