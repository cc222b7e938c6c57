"""One operation of a service: a method and a path, a handler, and the types of both sides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.routing import compile_path

from chassis.contracts.wire import NOT_DECODED
from chassis.errors import BadRequest
from chassis.http.messages import Reply
from chassis.telemetry.metrics import Counter, Histogram

Handler = Callable[..., Awaitable[Any]]
_encode = msgspec.json.Encoder().encode


class Operation:
    """What is served at one method and path. `inside`: it is a call; `at_once`: see `Api.call`."""

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
        at_once: bool = False,
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
        self.at_once = at_once
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

    def reply(self, answer: Any) -> Reply:
        """What the handler gave, as it is answered."""
        if isinstance(answer, Reply):
            return answer
        if answer is None:
            return Reply(b"", 204)
        return Reply(_encode(answer), self.status)

    def params(self, raw: Mapping[str, str]) -> Mapping[str, Any]:
        """The path's parameters in their types."""
        return {name: self.convertors[name].convert(value) for name, value in raw.items()}
