"""The server side of a service: typed operations behind one ASGI callable.

An operation is a handler `async (request, body) -> answer` with the types of both. Bodies are
decoded and answers encoded here; failures become problems here; each request is counted, timed,
traced and logged here. Handlers hold the domain and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec
from starlette.routing import compile_path

from chassis.contracts.wire import NOT_DECODED, Ans, Call, Req
from chassis.deadline import GRPC_HEADER, Deadline, parse_grpc_timeout, parse_timeout_ms
from chassis.deadline import HEADER as DEADLINE_HEADER
from chassis.errors import BadRequest, NotFound, RequestFailure, StagedoorError, Unauthenticated
from chassis.http.openapi import describe
from chassis.http.problems import problem
from chassis.identity import PASSPORT_HEADER, Passport, PassportVerifier
from chassis.telemetry import TRACEPARENT, Telemetry, Trace, shown_path
from chassis.telemetry.metrics import Counter, Histogram

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Pairs = Sequence[tuple[bytes, bytes]]

BODY_LIMIT = 1 << 20
HEADER_LIMIT = 32 << 10
_JSON = b"application/json"


@dataclass(slots=True)
class Context:
    """What a request hands on to the calls it makes: its deadline, its trace and who asks."""

    deadline: Deadline
    trace: Trace
    passport_bytes: bytes = b""


@dataclass(slots=True)
class Request:
    """One request as a handler sees it. Header names are lower case."""

    method: str
    path: str
    params: Mapping[str, Any]
    query_string: bytes
    headers: Pairs
    body: bytes
    context: Context
    signed: Passport | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    """What the handler wants in the request's log line and span."""

    @property
    def passport(self) -> Passport:
        if self.signed is None:
            raise Unauthenticated("no passport: ask through the gateway", code="passport_missing")
        return self.signed

    def header(self, name: bytes) -> str | None:
        for known, value in self.headers:
            if known == name:
                return value.decode("latin-1")
        return None

    def query(self, name: str) -> str | None:
        values = parse_qs(self.query_string.decode("latin-1")).get(name)
        return values[0] if values else None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is not simply a value encoded as JSON with the operation's status."""

    body: bytes = b""
    status: int = 200
    content_type: bytes = _JSON
    headers: Pairs = ()


Handler = Callable[..., Awaitable[Any]]
H = TypeVar("H", bound=Handler)


class Operation:
    """One method and path, its handler and its types."""

    def __init__(
        self,
        name: str,
        method: str,
        path: str,
        handler: Handler,
        *,
        request: type | None,
        answer: type | None,
        auth: bool,
        status: int,
        inside: bool,
    ) -> None:
        self.name = name
        self.method = method
        self.path = path
        self.handler = handler
        self.request = request
        self.answer = answer
        self.auth = auth
        self.status = status
        self.inside = inside
        self.summary = (handler.__doc__ or name).strip().partition("\n")[0]
        self.pattern, _, self.convertors = compile_path(path)
        self._decoder: msgspec.json.Decoder[Any] | None = (
            msgspec.json.Decoder(request) if request is not None else None
        )
        self.duration: Histogram | None = None
        self.counters: dict[tuple[int, str], Counter] = {}

    def decode(self, body: bytes) -> Any:
        assert self._decoder is not None
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as fault:
            raise BadRequest(f"the body does not fit: {fault}") from None
        except NOT_DECODED as fault:
            raise BadRequest(f"the body is not JSON: {fault}") from None

    async def run(self, request: Request) -> Reply:
        if self.request is None:
            answer = await self.handler(request)
        else:
            answer = await self.handler(request, self.decode(request.body))
        if isinstance(answer, Reply):
            return answer
        body = b"" if answer is None else msgspec.json.encode(answer)
        return Reply(body, 204 if answer is None else self.status)


class Api:
    """All operations of one service. Call it as an ASGI application."""

    def __init__(self, name: str, *, verifier: PassportVerifier, telemetry: Telemetry) -> None:
        self.name = name
        self._verifier = verifier
        self._telemetry = telemetry
        self._clock = telemetry.clock
        self._fixed: dict[tuple[str, str], Operation] = {}
        self._patterns: list[Operation] = []
        self.operations: list[Operation] = []
        self.in_flight = 0
        metrics = telemetry.metrics
        self._requests = metrics.counter(
            "service_requests_total", "Requests answered.", ("operation", "code", "outcome")
        )
        self._durations = metrics.histogram(
            "service_request_duration_seconds", "From head to answer.", ("operation",)
        )
        metrics.gauge(
            "service_inflight_requests", "Being served now.", read=lambda: [((), self.in_flight)]
        )
        self.route("GET", "/openapi.json", self._openapi, auth=False, name="openapi")

    def call(self, call: Call[Req, Ans], handler: Callable[[Request, Req], Awaitable[Ans]]) -> None:
        """Serves one call that other services make."""
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
        operation.duration = self._durations.child(operation.name)
        self.operations.append(operation)
        if operation.convertors:
            self._patterns.append(operation)
        else:
            self._fixed[operation.method, operation.path] = operation

    async def _openapi(self, request: Request) -> Reply:
        """This service's OpenAPI 3.1 document."""
        return Reply(msgspec.json.encode(describe(self.name, self.operations)))

    def find(self, method: str, path: str) -> tuple[Operation, Mapping[str, Any]]:
        """The operation and its path parameters; `NotFound`, or 405 with what is allowed."""
        operation = self._fixed.get((method, path))
        if operation is not None:
            return operation, {}
        allowed = {known for known, fixed in self._fixed if fixed == path}
        for candidate in self._patterns:
            match = candidate.pattern.match(path)
            if match is None:
                continue
            if candidate.method == method:
                return candidate, _convert(candidate, match.groupdict())
            allowed.add(candidate.method)
        if allowed:
            raise MethodNotAllowed(sorted(allowed))
        raise NotFound(f"nothing is served at {path[:200]}", code="no_such_path")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started, begun = self._clock.monotonic(), self._clock.now()
        self.in_flight += 1
        served = _Served(_trace(scope, self._telemetry))
        try:
            reply = await self._answer(scope, receive, served)
            await _send(send, reply)
        finally:
            self.in_flight -= 1
            self._record(scope, served, begun, self._clock.monotonic() - started)

    async def _answer(self, scope: Scope, receive: Receive, served: _Served) -> Reply:
        try:
            guard(scope)
            operation, params = self.find(scope["method"], scope["path"])
            served.operation = operation
            request = await self._request(scope, receive, params, served.trace)
            served.notes = request.notes
            if operation.auth and request.signed is None:
                raise Unauthenticated(
                    "no passport: ask through the gateway", code="passport_missing"
                )
            reply = await operation.run(request)
            served.outcome = "success"
        except StagedoorError as failure:
            served.outcome = failure.outcome
            reply = _problem(failure)
        except Exception as fault:
            served.outcome = "local_error"
            served.fault = f"{type(fault).__name__}: {fault}"
            self._telemetry.log.say(
                "unexpected", fault=served.fault, path=shown_path(scope["path"])
            )
            reply = _problem(StagedoorError("something went wrong here; the log has the details"))
        served.status = reply.status
        return reply

    async def _request(
        self, scope: Scope, receive: Receive, params: Mapping[str, Any], trace: Trace
    ) -> Request:
        deadline, passport = Deadline.never(self._clock), b""
        for name, value in scope["headers"]:
            if name == PASSPORT_HEADER:
                passport = value
            elif name == DEADLINE_HEADER:
                deadline = deadline.at_most(parse_timeout_ms(value))
            elif name == GRPC_HEADER:
                deadline = deadline.at_most(parse_grpc_timeout(value))
        deadline.check("the work began")
        return Request(
            scope["method"],
            scope["path"],
            params,
            scope["query_string"],
            scope["headers"],
            await read_body(receive, BODY_LIMIT),
            Context(deadline, trace, passport),
            self._verifier.verify(passport) if passport else None,
        )

    def _record(self, scope: Scope, served: _Served, begun: float, duration: float) -> None:
        operation = served.operation
        name = operation.name if operation is not None else "unmatched"
        self._count(operation, name, served)
        if operation is not None and operation.duration is not None:
            operation.duration.observe(duration)
        attributes = {
            "http.request.method": scope["method"],
            "http.route": operation.path if operation is not None else None,
            "http.response.status_code": served.status,
            **served.notes,
        }
        self._telemetry.span(served.trace, name, begun, served.outcome, attributes)
        line = {
            "trace": served.trace.trace_id,
            "operation": name,
            "method": scope["method"],
            "path": shown_path(scope["path"]),
            "status": served.status,
            "outcome": served.outcome,
            "duration_ms": round(duration * 1000, 3),
            **served.notes,
        }
        if served.fault:
            line["fault"] = served.fault
        self._telemetry.log.request(line)

    def _count(self, operation: Operation | None, name: str, served: _Served) -> None:
        key = (served.status, served.outcome)
        known = operation.counters if operation is not None else {}
        counter = known.get(key)
        if counter is None:
            counter = known[key] = self._requests.child(name, str(served.status), served.outcome)
        counter.n += 1


@dataclass(slots=True)
class _Served:
    """What became of one request."""

    trace: Trace
    operation: Operation | None = None
    status: int = 500
    outcome: str = "client_gone"
    fault: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)


class MethodNotAllowed(RequestFailure):
    """There is such a path, but not for this method."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(f"allowed here: {', '.join(allowed)}", members={"allowed": list(allowed)})


class TooLarge(RequestFailure):
    """The body is larger than this service takes."""

    status = 413
    code = "body_too_large"


def guard(scope: Scope) -> None:
    """Refuses what uvicorn lets through: no Host or two, Transfer-Encoding on 1.0, huge headers."""
    hosts = size = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding" and scope["http_version"] == "1.0":
            raise BadRequest("Transfer-Encoding has no meaning in HTTP/1.0")
    if hosts != 1 and scope["http_version"] != "1.0":
        raise BadRequest("exactly one Host header is needed")
    if size > HEADER_LIMIT:
        raise BadRequest(f"the headers are larger than {HEADER_LIMIT} bytes")


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


def _trace(scope: Scope, telemetry: Telemetry) -> Trace:
    for name, value in scope["headers"]:
        if name == TRACEPARENT:
            caller = Trace.parse(value)
            if caller is not None:
                return caller.child(telemetry.clock)
    return Trace.new(telemetry.clock)


def _convert(operation: Operation, raw: Mapping[str, str]) -> Mapping[str, Any]:
    return {name: operation.convertors[name].convert(value) for name, value in raw.items()}


def _problem(failure: StagedoorError) -> Reply:
    status, headers, body = problem(failure)
    ours = (b"content-type", b"content-length")
    kept = [(name, value) for name, value in headers if name.lower() not in ours]
    return Reply(body, status, b"application/problem+json", kept)


async def _send(send: Send, reply: Reply) -> None:
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    if reply.status == 204:
        headers = list(reply.headers)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
