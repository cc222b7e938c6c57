"""The failure tree: every way a call can fail, and what each way means to its caller.

```
StagedoorError
├── Faulty                       our own use is wrong; the process says so and stops
│   ├── ConfigurationFault         settings, rules or flags, all faults at once
│   └── SchemaFault                a store holds another schema than this code
├── RequestFailure               400-499  client_*         the request cannot be served as it is
│   ├── BadRequest                 400
│   ├── Unauthenticated            401    auth_denied
│   ├── Forbidden                  403    auth_denied
│   ├── NotFound                   404
│   ├── Conflict                   409
│   ├── Gone                       410
│   ├── Unprocessable              422
│   └── PeerRefusal                4xx    a peer's own answer, carried through with its code
├── Refusal                      refused here, before any work; never counts against a breaker
│   ├── BreakerOpen                503    breaker_open
│   ├── BulkheadFull               503    shed
│   ├── Shed                       503    shed
│   ├── RateLimited                429    rate_limited
│   └── DeadlineExceeded           504    deadline
├── OriginFailure                the other side of a call did not do its part
│   ├── NoInstances                503    no_instances     nothing was sent
│   ├── ConnectFailed              502    origin_connect   nothing was sent
│   ├── OriginReset                502    origin_reset     `sent` says whether it may have been read
│   ├── OriginTimeout              504    origin_timeout
│   ├── OriginGarbled              502    origin_error     broken framing or an undecodable body
│   └── OriginStatus               5xx    origin_error     an answer of 500 and above
├── StoreFailure                 tables, objects, log or registry
│   ├── StoreUnavailable           503    origin_error
│   ├── AlreadyExists              409    a create-only write lost
│   ├── Missing                    404
│   ├── OutOfRange                 410    an offset that the log no longer has, or never had
│   └── Fenced                     409    a partition that another consumer owns by now
└── DependencyFailed             503    a critical step failed; names the step
```

Every leaf knows its HTTP `status`, stable problem `code`, telemetry `outcome`, and `retryable`.
`chassis.http.problems` is the one place that turns a failure into a response.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class Retryable(enum.Enum):
    """Whether another attempt may be made elsewhere."""

    NEVER = "never"
    IDEMPOTENT = "idempotent"  # only where repeating the request is harmless
    ALWAYS = "always"  # proof that nothing was processed


class StagedoorError(Exception):
    """The root. `members` are extra fields of the problem body.

    `public` is what a caller is told in place of a `detail` that names addresses, files or
    another's words: those are for the log of the process where it happened.
    """

    public: ClassVar[str] = ""
    status: ClassVar[int] = 500
    code: str = "internal"
    outcome: ClassVar[str] = "local_error"
    retryable: Retryable = Retryable.NEVER

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        retry_after_s: float | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.members: Mapping[str, Any] = members or {}
        if code is not None:
            self.code = code

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code}: {self.detail})"


class Faulty(StagedoorError):
    """Our own use is wrong: nothing to retry, somebody has to mend it."""

    code = "faulty"


class ConfigurationFault(Faulty):
    """Settings, rules or flags that cannot be used; carries every fault found."""

    code = "configuration"

    def __init__(self, faults: Sequence[str], *, what: str = "configuration") -> None:
        self.faults = tuple(faults)
        lines = "".join(f"\n  - {fault}" for fault in self.faults)
        super().__init__(f"{what} cannot be used:{lines}")


class SchemaFault(Faulty):
    """A store holds another schema than this code expects."""

    code = "schema"


class RequestFailure(StagedoorError):
    """The request cannot be served as it is; trying again unchanged will not help."""

    status = 400
    code = "invalid_request"
    outcome = "client_error"


class BadRequest(RequestFailure):
    """The request is malformed."""


class Unauthenticated(RequestFailure):
    """No credential, or one that does not verify."""

    status = 401
    code = "token_invalid"
    outcome = "auth_denied"


class Forbidden(RequestFailure):
    """The caller is known and may not do this."""

    status = 403
    code = "forbidden"
    outcome = "auth_denied"


class NotFound(RequestFailure):
    """There is no such thing."""

    status = 404
    code = "not_found"
    outcome = "client_not_found"


class Conflict(RequestFailure):
    """The request contradicts the present state."""

    status = 409
    code = "conflict"


class Gone(RequestFailure):
    """There was such a thing, and it has ended for good."""

    status = 410
    code = "gone"


class Unprocessable(RequestFailure):
    """Well-formed, but the values make no sense here."""

    status = 422
    code = "unprocessable"


class PeerRefusal(RequestFailure):
    """A peer answered with its own 4xx problem; status and code are the peer's."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str = "",
        *,
        retry_after_s: float | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail, code=code, retry_after_s=retry_after_s, members=members)
        self.status = status  # type: ignore[misc]  # the one leaf whose status is the peer's


class Refusal(StagedoorError):
    """Refused here before any work was done; says which policy, why, and when to try again."""

    status = 503
    code = "refused"
    outcome = "shed"


class BreakerOpen(Refusal):
    """The breaker of this command is open."""

    code = "breaker_open"
    outcome = "breaker_open"


class BulkheadFull(Refusal):
    """The command's share of concurrency is in use."""

    code = "bulkhead_full"


class Shed(Refusal):
    """Dropped early, by priority."""

    code = "shed"


class RateLimited(Refusal):
    """The caller's rate is used up."""

    status = 429
    code = "rate"
    outcome = "rate_limited"


class DeadlineExceeded(Refusal):
    """The request's deadline has passed."""

    status = 504
    code = "deadline"
    outcome = "deadline"


class OriginFailure(StagedoorError):
    """The other side of a call did not do its part."""

    public = "what this answer needs did not do its part; nothing is wrong with the request"
    status = 502
    code = "origin_error"
    outcome = "origin_error"
    retryable = Retryable.IDEMPOTENT


class NoInstances(OriginFailure):
    """The cluster has no instance to send to."""

    status = 503
    code = "no_instances"
    outcome = "no_instances"
    retryable = Retryable.ALWAYS


class ConnectFailed(OriginFailure):
    """No connection could be made, so nothing was sent."""

    code = "origin_connect"
    outcome = "origin_connect"
    retryable = Retryable.ALWAYS


class OriginReset(OriginFailure):
    """The connection ended before the answer did. `sent` is False when no byte had been written;
    `kept` is True when it had served before and no byte of an answer came."""

    code = "origin_reset"
    outcome = "origin_reset"
    kept: bool = False

    def __init__(self, detail: str = "", *, sent: bool = True) -> None:
        super().__init__(detail)
        self.sent = sent
        if not sent:
            self.retryable = Retryable.ALWAYS


class OriginTimeout(OriginFailure):
    """The attempt's own timeout passed."""

    status = 504
    code = "origin_timeout"
    outcome = "origin_timeout"


class OriginGarbled(OriginFailure):
    """Broken framing, or a body that does not decode as what was agreed."""

    code = "origin_garbled"
    retryable = Retryable.NEVER


class OriginStatus(OriginFailure):
    """The origin answered with a status of 500 or above."""

    code = "origin_status"

    def __init__(
        self, origin_status: int, detail: str = "", *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(detail or f"answered {origin_status}", retry_after_s=retry_after_s)
        self.origin_status = origin_status
        if origin_status not in (502, 503, 504):
            self.retryable = Retryable.NEVER


class StoreFailure(StagedoorError):
    """Tables, objects, log or registry."""

    status = 503
    code = "store"
    outcome = "origin_error"


class StoreUnavailable(StoreFailure):
    """The store cannot be reached or cannot write now; the message says why and what to do."""

    public = "what this answer needs cannot be read or written now; try again a little later"
    code = "store_unavailable"
    retryable = Retryable.IDEMPOTENT


class AlreadyExists(StoreFailure):
    """A create-only write lost to an earlier one."""

    status = 409
    code = "already_exists"
    outcome = "client_error"


class Missing(StoreFailure):
    """There is nothing under this key."""

    status = 404
    code = "missing"
    outcome = "client_not_found"


class OutOfRange(StoreFailure):
    """An offset that the log no longer has, or never had."""

    status = 410
    code = "out_of_range"


class Fenced(StoreFailure):
    """A partition that this consumer no longer owns, or never did; nothing was committed."""

    status = 409
    code = "fenced"


class DependencyFailed(StagedoorError):
    """A critical step of a plan failed; `step` names it."""

    status = 503
    code = "dependency"
    outcome = "origin_error"

    def __init__(
        self, step: str, cause: BaseException, *, retry_after_s: float | None = None
    ) -> None:
        reason = cause.code if isinstance(cause, StagedoorError) else type(cause).__name__
        super().__init__(
            f"{step} is needed and failed: {reason}",
            retry_after_s=retry_after_s,
            members={"step": step, "reason": reason},
        )
        self.step = step
        self.reason = reason
