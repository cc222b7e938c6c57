"""What an exchange carries from its head to its end, and how it ends.

The layers of an exchange stand on it, one file each: the way back (`Answering`), the attempts at
instances (`Attempting`), and on top the way in (`Exchange`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from chassis.discovery.balancer import Standing
from chassis.errors import Faulty, StagedoorError
from chassis.http.connection import Connection
from chassis.http.framing import Headers
from chassis.http.problems import problem
from chassis.identity import Claims
from chassis.telemetry import Trace
from gateway.edge import response
from gateway.edge.client_certificate import Certificate
from gateway.edge.ports import Downstream
from gateway.edge.refusals import ALLOW, MethodNotAllowed
from gateway.edge.request import Request, switches
from gateway.edge.response import Framing
from gateway.ready import ReadyRoute, Serving
from gateway.reasons import reason
from gateway.retrying import ATTEMPT

if TYPE_CHECKING:
    from gateway.core import Gateway
    from gateway.racing import Watch

CLIENT_GONE = 499


class Context(Request):
    """`claims` is None until a credential was verified. `status` is 0 until an answer has begun.

    A trace is only `digits` until somebody asks for it: most exchanges end without a word about it.
    `asks_first`: the client waits for 100 (Continue) before it sends the body.
    """

    __slots__ = (
        "_connection",
        "_done",
        "_downstream",
        "_framing",
        "_gateway",
        "_keep",
        "_mark",
        "_serving",
        "_standing",
        "_task",
        "_watch",
        "asks_first",
        "attempts",
        "bytes_in",
        "bytes_out",
        "caller",
        "claims",
        "detail",
        "digits",
        "known_trace",
        "outcome",
        "ready",
        "response_headers",
        "started",
        "status",
        "version",
    )

    _gateway: Gateway
    _downstream: Downstream
    _connection: Connection | None
    _standing: Standing | None
    _task: asyncio.Task[None] | None
    _watch: Watch | None
    _framing: Framing
    _done: bool
    _keep: bool
    _mark: tuple[int, int] | None
    _serving: Serving
    digits: bytes
    known_trace: Trace | None
    ready: ReadyRoute | None
    asks_first: bool
    version: int
    caller: Claims | None
    claims: Mapping[str, Any] | None
    response_headers: Headers
    started: float
    status: int
    outcome: str
    detail: str
    attempts: int
    bytes_in: int
    bytes_out: int

    def __repr__(self) -> str:
        name = self.ready.name if self.ready else "no route yet"
        return f"{type(self).__name__}({self.method!r} {self.path!r}, {name}, {self.status})"

    # -- what filters may do

    @property
    def is_answered(self) -> bool:
        """Whether an answer has begun."""
        return self.status != 0

    @property
    def certificate(self) -> Certificate | None:
        """The client's, when the listener asked for one and the handshake has verified it."""
        return self._downstream.peer.certificate

    @property
    def trace(self) -> Trace | None:
        """This hop's place in its trace; None before there is a route."""
        if self.known_trace is None and self.digits:
            digits = self.digits.decode()
            self.known_trace = Trace(digits[:32], digits[32:], None, sampled=True)
        return self.known_trace

    def identify(self, claims: Claims) -> None:
        """The caller is known."""
        self.caller = claims
        self.claims = claims.values

    def reply(self, status: int, headers: Headers, body: bytes = b"") -> None:
        """Answers from here. `headers` without any framing; their names may be of any case.
        `Faulty` for what begins a tunnel: there is nobody at the other end."""
        if switches(self.method, status):
            raise Faulty("only an instance can begin a tunnel")
        self.status = status
        if self.outcome == "success":
            self.outcome = outcome_of(status)
        fields = [(name, value) for name, value in headers if name.lower() != b"content-length"]
        if status != 204 and status != 304:
            fields.append((b"content-length", b"%d" % len(body)))
        sent = b"" if self.method == b"HEAD" else body
        now = self._gateway.monotonic()
        self._keep = self.fields.keep_alive and self._downstream.may_keep(now)
        text = response.head(
            status, reason(status), fields, Framing.LENGTH, is_11=self.is_11, keep_alive=self._keep
        )
        self.bytes_out = len(sent)
        self._downstream.write(text + sent)
        self._end(now)

    # -- the end

    def fail(self, failure: BaseException) -> None:
        """Ends the exchange with the problem that `failure` is, or cuts an answer under way."""
        if self._done:
            return
        if isinstance(failure, StagedoorError):
            self.outcome = failure.outcome
            self.detail = f"{failure.code}: {failure.detail}"
        else:
            self.outcome = "local_error"
            self.detail = "internal"
            self._gateway.observer.broke(self, failure)
        if self.status:
            self._cut(self.detail)
            return
        self._give_back(getattr(failure, "code", "internal"))
        status, headers, body = problem(failure)
        trace = self.trace
        if trace is not None:
            headers.append((b"x-request-id", trace.trace_id.encode()))
        if isinstance(failure, MethodNotAllowed):
            headers.append(ALLOW)
        if self.attempts > 1:
            headers.append((ATTEMPT, b"%d" % self.attempts))
        self.reply(status, headers, body)

    def _cut(self, why: str) -> None:
        """An answer that cannot be completed must not look complete."""
        self.detail = why
        if self.outcome == "success":
            self.outcome = "origin_error"
        self._end(self._gateway.monotonic(), cut=True)
        self._downstream.cut(reset=self._framing is Framing.CLOSE)

    def _end(self, now: float, *, cut: bool = False) -> None:
        """Runs once, whichever way the exchange ends, and gives back everything that was taken."""
        if self._done:
            return
        self._done = True
        gateway = self._gateway
        ready = self.ready
        if ready is not None:
            ready.timeouts.pop(self, None)
        if self._mark is not None:
            gateway.stalls.leave(self)
            gateway.streams.leave(self)
        if self._watch is not None:
            self._watch.cancel()
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        if self._standing is not None:
            self._give_back(self.outcome)
        gateway.in_flight.now -= 1
        gateway.observer.ended(self, now)
        if not cut and self.status != CLIENT_GONE:
            self._downstream.answered(self._keep, now)

    def expire(self, now: float) -> None:
        """The rule's timeout, or that of an answer that stands still, has passed."""
        raise NotImplementedError

    def _give_back(self, status: int | str, *, is_complete: bool = False) -> None:
        """The attempt under way, if there is one, is over."""
        raise NotImplementedError

    # -- waiting

    def _spawn(self, waiting: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._guard(waiting))
        self._task.add_done_callback(partial(_close, waiting))

    async def _guard(self, waiting: Coroutine[Any, Any, None]) -> None:
        try:
            await waiting
        except Exception as failure:  # whatever a filter raises, the request is answered
            self.fail(failure)


def _close(waiting: Coroutine[Any, Any, None], task: asyncio.Task[None]) -> None:
    """A task that is cancelled before it has begun would leave it, and Python would warn."""
    waiting.close()


def outcome_of(status: int) -> str:
    """The outcome of an answer that is not one of our own failures."""
    if status < 400:
        return "success"
    if status == 404:
        return "client_not_found"
    return "client_error" if status < 500 else "origin_error"
