"""The server side of a service: typed operations, served whole or as an ASGI application.

An operation is a handler `async (request, body) -> answer` with the types of both. Bodies are
decoded and answers encoded here; failures become problems here; each request is counted, timed,
traced and logged here. Handlers hold the domain and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from chassis.contracts.wire import Ans, Call, Req
from chassis.errors import BadRequest, DeadlineExceeded, NotFound, RequestFailure, StagedoorError
from chassis.http.framing import Headers
from chassis.http.inbound import BODY_LIMIT, TooLarge, check_head, check_size
from chassis.http.messages import Reply, fields_of, told
from chassis.http.openapi import describe
from chassis.http.operation import Handler, Operation
from chassis.http.records import Records
from chassis.http.request import NOBODY, Asked, Context, Desk, Request
from chassis.identity import PassportVerifier
from chassis.telemetry import Telemetry, shown_path

__all__ = ["Api", "Context", "MethodNotAllowed", "Operation", "Reply", "Request"]

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_NOTHING: Mapping[str, Any] = {}
_NO_HEADERS: Headers = []


class Api:
    """All operations of one service; an `Application`. Call it as an ASGI application."""

    def __init__(self, name: str, *, verifier: PassportVerifier, telemetry: Telemetry) -> None:
        self.name = name
        self._telemetry = telemetry
        self._desk = Desk(telemetry.clock, telemetry.identifiers, verifier)
        self._records = Records(telemetry)
        self._monotonic = telemetry.clock.monotonic
        self._now = telemetry.clock.now
        self._fixed: dict[tuple[str, str], Operation] = {}
        self._calls: dict[bytes, Operation] = {}
        self._patterns: list[Operation] = []
        self.operations: list[Operation] = []
        self.in_flight = 0
        telemetry.metrics.gauge(
            "service_inflight_requests", "Being served now.", read=lambda: [((), self.in_flight)]
        )
        self.route("GET", "/openapi.json", self._openapi, auth=False, name="openapi")

    def call(
        self,
        call: Call[Req, Ans],
        handler: Callable[[Request, Req], Awaitable[Ans]],
        *,
        at_once: bool = False,
    ) -> None:
        """Serves one call that other services make.

        `at_once` for a handler that mostly answers without waiting: it begins outside of a task,
        which a first wait for a peer or a timeout needs, but not one for its own store.
        """
        if call.service != self.name:
            raise ValueError(f"{call.name} is a call of {call.service}, not of {self.name}")
        self._add(
            Operation(
                call.name,
                "POST",
                call.path,
                handler,
                request=call.request,
                answer=call.answer,
                auth=False,
                status=200,
                inside=True,
                at_once=at_once,
            )
        )

    def route(
        self,
        method: str,
        path: str,
        handler: Handler,
        *,
        request: type | None = None,
        answer: type | None = None,
        auth: bool = True,
        status: int = 200,
        name: str | None = None,
    ) -> None:
        """Serves one REST operation that the gateway routes here; `auth` needs a passport.

        `path` is in Starlette's path language (`/v1/titles/{title_id}`).
        """
        self._add(
            Operation(
                name or handler.__name__.strip("_"),
                method,
                path,
                handler,
                request=request,
                answer=answer,
                auth=auth,
                status=status,
                inside=False,
            )
        )

    def _add(self, operation: Operation) -> None:
        self._records.follow(operation)
        self.operations.append(operation)
        if operation.convertors:
            self._patterns.append(operation)
        else:
            self._fixed[operation.method, operation.path] = operation
        if operation.inside:
            self._calls[operation.path.encode()] = operation

    async def _openapi(self, request: Request) -> Reply:
        """This service's OpenAPI 3.1 document."""
        return Reply(msgspec.json.encode(describe(self.name, self.operations)))

    def find(self, method: str, path: str) -> tuple[Operation, Mapping[str, Any]]:
        """The operation and its path parameters; `NotFound`, or 405 with what is allowed.

        HEAD finds what GET does: the listener leaves the body out.
        """
        method = "GET" if method == "HEAD" else method
        operation = self._fixed.get((method, path))
        if operation is not None:
            return operation, {}
        allowed = {known for known, fixed in self._fixed if fixed == path}
        for candidate in self._patterns:
            match = candidate.pattern.match(path)
            if match is None:
                continue
            if candidate.method == method:
                return candidate, candidate.params(match.groupdict())
            allowed.add(candidate.method)
        if allowed:
            raise MethodNotAllowed(sorted(allowed))
        raise NotFound(f"nothing is served at {path[:200]}", code="no_such_path")

    async def answer(
        self, method: str, path: str, query: bytes, headers: Headers, body: bytes
    ) -> Reply:
        """Runs the operation that is asked for; never raises but when cancelled."""
        operation, asked = None, NOBODY
        begun, started = self._now(), self._monotonic()
        try:
            asked = Asked.of(headers)
            operation, params = self.find(method, path)
        except StagedoorError as failure:
            return self._refused(failure, asked, method, path)
        shown = _NO_HEADERS if operation.inside else headers
        request = Request(method, path, params, query, shown, body, asked, started, self._desk)
        return await self._run(operation, request, begun)

    def call_of(self, path: bytes) -> Operation | None:
        """The operation that serves the calls to `path`."""
        return self._calls.get(path)

    def answer_call(
        self, operation: Operation, asked: Asked, body: bytes
    ) -> Coroutine[Any, Any, Reply]:
        """`answer` for a call that was recognised as a whole."""
        request = Request(
            "POST",
            operation.path,
            _NOTHING,
            b"",
            _NO_HEADERS,
            body,
            asked,
            self._monotonic(),
            self._desk,
        )
        return self._run(operation, request, self._now())

    async def _run(self, operation: Operation, request: Request, begun: float) -> Reply:
        status, outcome, fault = 500, "client_gone", ""
        self.in_flight += 1
        try:
            if request.asked.timeout_s <= 0:
                raise DeadlineExceeded("the deadline passed before the work began")
            if operation.auth:
                request.passport  # noqa: B018  # raises when there is none
            if operation.request is None:
                answer = await operation.handler(request)
            else:
                answer = await operation.handler(request, operation.decode(request.body))
            reply = operation.reply(answer)
            status, outcome = reply.status, "success"
        except StagedoorError as failure:
            reply = told(failure)
            status, outcome = reply.status, failure.outcome
            fault = failure.detail if failure.public else ""
        except Exception as unexpected:
            fault, outcome = f"{type(unexpected).__name__}: {unexpected}", "local_error"
            reply = self._unexpected(fault, request.path)
        finally:
            self.in_flight -= 1
            lasted_s = self._monotonic() - request.at
            self._records.add((operation, request, begun, lasted_s, status, outcome, fault))
        return reply

    def refuse(self, failure: StagedoorError) -> Reply:
        """The answer to what could not be read as a request; counted and logged like one."""
        return self._refused(failure, NOBODY, "", "")

    def _refused(self, failure: StagedoorError, asked: Asked, method: str, path: str) -> Reply:
        reply = told(failure)
        request = Request(method, path, _NOTHING, b"", _NO_HEADERS, b"", asked, 0.0, self._desk)
        self._records.add((None, request, self._now(), 0.0, reply.status, failure.outcome, ""))
        return reply

    def _unexpected(self, fault: str, path: str) -> Reply:
        self._telemetry.log.say("unexpected", fault=fault, path=shown_path(path))
        return told(StagedoorError("something went wrong here; the log has the details"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI face."""
        if scope["type"] != "http":
            return
        headers = [(name, value) for name, value in scope["headers"]]
        try:
            guard(scope)
            body = await read_body(receive, BODY_LIMIT)
        except StagedoorError as failure:
            await _send(send, self.refuse(failure))
            return
        query = scope["query_string"]
        await _send(send, await self.answer(scope["method"], scope["path"], query, headers, body))


class MethodNotAllowed(RequestFailure):
    """There is such a path, but not for this method."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(f"allowed here: {', '.join(allowed)}", members={"allowed": list(allowed)})


def guard(scope: Scope) -> None:
    """Refuses what ASGI servers let through: no Host or two, Transfer-Encoding on 1.0, huge
    headers."""
    headers = list(scope["headers"])
    check_head(headers, scope["http_version"])
    check_size(headers)


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole request body; `TooLarge` beyond `limit`, `BadRequest` when it was cut short."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > limit:
            raise TooLarge(f"the body is larger than {limit} bytes")
    if message["type"] == "http.disconnect":
        raise BadRequest("the body was cut short")
    if len(body) > limit:
        raise TooLarge(f"the body is larger than {limit} bytes")
    return body


async def _send(send: Send, reply: Reply) -> None:
    start = {"status": reply.status, "headers": fields_of(reply)}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": reply.body})
