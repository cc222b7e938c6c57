"""The server side of a service: typed operations, served whole or as an ASGI application.

An operation is a handler `async (request, body) -> answer` with the types of both. Bodies are
decoded and answers encoded here; failures become problems here; each request is counted, timed,
traced and logged here. Handlers hold the domain and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec
from starlette.routing import compile_path

from chassis.contracts.wire import NOT_DECODED, Ans, Call, Req
from chassis.deadline import GRPC_HEADER, Deadline, parse_grpc_timeout, parse_timeout_ms
from chassis.deadline import HEADER as DEADLINE_HEADER
from chassis.errors import BadRequest, NotFound, RequestFailure, StagedoorError, Unauthenticated
from chassis.http.framing import Headers
from chassis.http.inbound import BODY_LIMIT, TooLarge, check_head, check_size
from chassis.http.messages import Reply, fields_of, told
from chassis.http.openapi import describe
from chassis.identity import PASSPORT_HEADER, Passport, PassportVerifier
from chassis.telemetry import TRACEPARENT, Span, Telemetry, Trace, shown_path
from chassis.telemetry.metrics import Counter, Histogram

__all__ = ["Api", "Context", "MethodNotAllowed", "Operation", "Reply", "Request"]

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_NOTHING: Mapping[str, Any] = {}


class Context(msgspec.Struct):
    """What a request hands on to the calls it makes: its deadline, its trace and who asks."""

    deadline: Deadline
    trace: Trace
    passport_bytes: bytes = b""


class Request(msgspec.Struct):
    """One request as a handler sees it. Header names are lower case."""

    method: str
    path: str
    params: Mapping[str, Any]
    query_string: bytes
    headers: Headers
    body: bytes
    context: Context
    signed: Passport | None = None
    notes: dict[str, Any] = msgspec.field(default_factory=dict)
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


Handler = Callable[..., Awaitable[Any]]
H = TypeVar("H", bound=Handler)
_encode = msgspec.json.Encoder().encode


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
        if answer is None:
            return Reply(b"", 204)
        return Reply(_encode(answer), self.status)


class Api:
    """All operations of one service; an `Application`. Call it as an ASGI application."""

    def __init__(self, name: str, *, verifier: PassportVerifier, telemetry: Telemetry) -> None:
        self.name = name
        self._verifier = verifier
        self._telemetry = telemetry
        self._clock = telemetry.clock
        self._monotonic = telemetry.clock.monotonic
        self._now = telemetry.clock.now
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
                return candidate, _convert(candidate, match.groupdict())
            allowed.add(candidate.method)
        if allowed:
            raise MethodNotAllowed(sorted(allowed))
        raise NotFound(f"nothing is served at {path[:200]}", code="no_such_path")

    async def answer(
        self, method: str, path: str, query: bytes, headers: Headers, body: bytes
    ) -> Reply:
        """Runs the operation that is asked for; never raises but when cancelled."""
        begun, started = self._now(), self._monotonic()
        fields = dict(headers)
        trace = self._trace(fields.get(TRACEPARENT))
        operation: Operation | None = None
        status, outcome, fault = 500, "client_gone", ""
        notes = _NOTHING
        self.in_flight += 1
        try:
            operation, params = self.find(method, path)
            passport = fields.get(PASSPORT_HEADER, b"")
            request = Request(
                method,
                path,
                params,
                query,
                headers,
                body,
                Context(self._deadline(fields, started), trace, passport),
                self._verifier.verify(passport) if passport else None,
            )
            notes = request.notes
            if operation.auth:
                request.passport  # noqa: B018  # raises when there is none
            reply = await operation.run(request)
            status, outcome = reply.status, "success"
        except StagedoorError as failure:
            reply = told(failure)
            status, outcome = reply.status, failure.outcome
        except Exception as unexpected:
            fault, outcome = f"{type(unexpected).__name__}: {unexpected}", "local_error"
            reply = self._unexpected(fault, path)
        finally:
            self.in_flight -= 1
            self._record(
                Served(
                    trace,
                    operation,
                    method,
                    path,
                    begun,
                    self._monotonic() - started,
                    status,
                    outcome,
                    notes,
                    fault,
                )
            )
        return reply

    def refuse(self, failure: StagedoorError) -> Reply:
        """The answer to what could not be read as a request; counted and logged like one."""
        reply = told(failure)
        trace = self._trace(None)
        now, outcome = self._now(), failure.outcome
        self._record(Served(trace, None, "", "", now, 0.0, reply.status, outcome, _NOTHING, ""))
        return reply

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

    def _trace(self, header: bytes | None) -> Trace:
        identifiers = self._telemetry.identifiers
        caller = None if header is None else Trace.parse(header)
        return identifiers.new_trace() if caller is None else identifiers.child(caller)

    def _deadline(self, fields: Mapping[bytes, bytes], now: float) -> Deadline:
        header = fields.get(DEADLINE_HEADER)
        deadline = Deadline.never(self._clock)
        if header is not None:
            deadline = Deadline(self._clock, now + parse_timeout_ms(header))
        if GRPC_HEADER in fields:
            deadline = deadline.at_most(parse_grpc_timeout(fields[GRPC_HEADER]))
        if deadline.at <= now:
            deadline.check("the work began")
        return deadline

    def _unexpected(self, fault: str, path: str) -> Reply:
        self._telemetry.log.say("unexpected", fault=fault, path=shown_path(path))
        return told(StagedoorError("something went wrong here; the log has the details"))

    def _record(self, served: Served) -> None:
        operation = served.operation
        if operation is None:
            self._requests.child("unmatched", str(served.status), served.outcome).n += 1
        else:
            key = (served.status, served.outcome)
            counter = operation.counters.get(key)
            if counter is None:
                counter = self._requests.child(operation.name, str(key[0]), key[1])
                operation.counters[key] = counter
            counter.n += 1
            if operation.duration is not None:
                operation.duration.observe(served.duration_s)
        self._telemetry.spans.add(served)
        self._telemetry.log.request(served.line)


class Served(msgspec.Struct, frozen=True):
    """What became of one request: its span and its log line, worked out when somebody reads."""

    trace: Trace
    operation: Operation | None
    method: str
    path: str
    start: float
    duration_s: float
    status: int
    outcome: str
    notes: Mapping[str, Any]
    fault: str

    @property
    def name(self) -> str:
        return "unmatched" if self.operation is None else self.operation.name

    def as_dict(self, service: str) -> dict[str, Any]:
        """As a span."""
        attributes = {
            "http.request.method": self.method,
            "http.route": None if self.operation is None else self.operation.path,
            "http.response.status_code": self.status,
            **self.notes,
        }
        end = self.start + self.duration_s
        span = Span(self.trace, self.name, self.start, end, self.outcome, attributes)
        return span.as_dict(service)

    def line(self) -> dict[str, Any]:
        line = {
            "trace": self.trace.trace_id,
            "operation": self.name,
            "method": self.method,
            "path": shown_path(self.path),
            "status": self.status,
            "outcome": self.outcome,
            "duration_ms": round(self.duration_s * 1000, 3),
            **self.notes,
        }
        if self.fault:
            line["fault"] = self.fault
        return line


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


def _convert(operation: Operation, raw: Mapping[str, str]) -> Mapping[str, Any]:
    return {name: operation.convertors[name].convert(value) for name, value in raw.items()}


async def _send(send: Send, reply: Reply) -> None:
    start = {"status": reply.status, "headers": fields_of(reply)}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": reply.body})
