"""py-consul's HTTP shell on our own client and the running event loop.

Its own shells (requests, aiohttp) are never used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from consul import base
from consul.exceptions import ACLPermissionDenied

from chassis.clock import Clock
from chassis.deadline import Deadline

T = TypeVar("T")
Params = Sequence[tuple[str, Any]]

_PATIENCE_S = 5.0
_FILTERED = "X-Consul-Results-Filtered-By-Acls"


class Answer(Protocol):
    """A whole answer. Header names may have any case."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]: ...
    @property
    def body(self) -> bytes: ...


class Client(Protocol):
    """What asks the server; closed with the registry. `chassis.http.client.Client` is one."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        deadline: Deadline | None = None,
    ) -> Answer:
        """Fails with an `OriginFailure` or a `Refusal`."""
        ...

    async def close(self) -> None: ...


class HTTPClient(base.HTTPClient):  # type: ignore[misc]  # py-consul carries no types
    """py-consul's HTTP shell on a `Client`; every method returns an awaitable."""

    def __init__(self, scheme: str, host: str, port: int, client: Client, clock: Clock) -> None:
        super().__init__(f"[{host}]" if ":" in host else host, port, scheme)
        self._client = client
        self._clock = clock

    def get(
        self,
        callback: Callable[[base.Response], T],
        path: str,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        raw: bool = False,
    ) -> Awaitable[T]:
        return self._ask(callback, "GET", path, params, headers)

    def put(
        self,
        callback: Callable[[base.Response], T],
        path: str,
        params: Params | None = None,
        data: str | bytes = "",
        headers: Mapping[str, str] | None = None,
    ) -> Awaitable[T]:
        return self._ask(callback, "PUT", path, params, headers, data)

    post = put

    def delete(
        self,
        callback: Callable[[base.Response], T],
        path: str,
        params: Params | None = None,
        data: str | bytes = "",
        headers: Mapping[str, str] | None = None,
    ) -> Awaitable[T]:
        return self._ask(callback, "DELETE", path, params, headers, data)

    async def close(self) -> None:
        await self._client.close()

    async def _ask(
        self,
        callback: Callable[[base.Response], T],
        method: str,
        path: str,
        params: Params | None,
        headers: Mapping[str, str] | None,
        data: str | bytes = "",
    ) -> T:
        answer = await self._client.request(
            method,
            self.uri(path, params),
            headers=[(name.encode(), value.encode()) for name, value in (headers or {}).items()],
            body=data.encode() if isinstance(data, str) else data,
            deadline=Deadline.after(self._clock, _PATIENCE_S + _blocking_s(params)),
        )
        fields = {name.decode("latin-1").title(): value.decode() for name, value in answer.headers}
        _refuse_filtered(path, fields)
        return callback(base.Response(answer.status, fields, answer.body.decode()))


class Consul(base.Consul):  # type: ignore[misc]  # py-consul carries no types
    """py-consul's client on the shell it is given."""

    def __init__(self, http: HTTPClient, token: str | None) -> None:
        self._shell = http
        super().__init__(host=http.host, port=http.port, scheme=http.scheme)
        if token:  # else what py-consul reads from CONSUL_HTTP_TOKEN
            self.token = token

    def http_connect(self, *_: Any, **__: Any) -> HTTPClient:
        return self._shell


def _refuse_filtered(path: str, fields: Mapping[str, str]) -> None:
    """A token that may not see a service is shown an empty list of it: that is no empty service."""
    if path.startswith("/v1/health/service/") and fields.get(_FILTERED) == "true":
        raise ACLPermissionDenied("it may not read this service or its node")


def _blocking_s(params: Params | None) -> float:
    """How long the server may hold the answer back: `wait` and its jitter of a sixteenth."""
    wait = dict(params or ()).get("wait")
    return 0.0 if wait is None else int(wait.removesuffix("ms")) / 1000 * 17 / 16
