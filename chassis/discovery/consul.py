"""The Consul adapter: py-consul's own client, made asynchronous.

py-consul builds every request and reads every answer; only its HTTP shell is ours, so that it
runs on the client it is given and the running event loop. Its own shells (requests, aiohttp) are
never used. The same adapter talks to a real Consul and to `embedded.RegistryServer`.

Docs: https://developer.hashicorp.com/consul/api-docs (blocking queries: features/blocking).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from consul import base
from consul.check import Check
from consul.exceptions import ACLDisabled, ACLPermissionDenied, ConsulException

from chassis.clock import Clock
from chassis.deadline import Deadline
from chassis.discovery import background
from chassis.discovery.registry import DEFAULT_TTL_S, DEFAULT_WAIT_S, Instance, KeyValue
from chassis.errors import Faulty, OriginFailure, Refusal, StoreUnavailable

T = TypeVar("T")
Params = Sequence[tuple[str, Any]]

_PATIENCE_S = 5.0
_REAP_AFTER = "1m"  # the shortest that Consul accepts


class Answer(Protocol):
    """A whole answer. Header names are in lower case."""

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
        return callback(base.Response(answer.status, fields, answer.body.decode()))


class Consul(base.Consul):  # type: ignore[misc]  # py-consul carries no types
    """py-consul's client on the shell it is given."""

    def __init__(self, http: HTTPClient, token: str | None) -> None:
        self._shell = http
        super().__init__(host=http.host, port=http.port, scheme=http.scheme, token=token)

    def http_connect(self, *_: Any, **__: Any) -> HTTPClient:
        return self._shell


class ConsulRegistry:
    """The `Registry` port over a Consul agent."""

    def __init__(
        self,
        scheme: str,
        host: str,
        port: int,
        *,
        client: Client,
        clock: Clock,
        token: str | None,
    ) -> None:
        self.address = f"{host}:{port}"
        self.consul = Consul(HTTPClient(scheme, host, port, client, clock), token)
        self._clock = clock
        self._registrations: set[ConsulRegistration] = set()

    async def register(
        self, instance: Instance, *, ttl_s: float = DEFAULT_TTL_S
    ) -> ConsulRegistration:
        registration = ConsulRegistration(self, instance, ttl_s, self._clock)
        await registration.enter()
        self._registrations.add(registration)
        registration.start(self._registrations.discard)
        return registration

    async def instances(
        self, service: str, *, index: int = 0, wait_s: float = DEFAULT_WAIT_S
    ) -> tuple[int, list[Instance]]:
        with self.translated():
            answered, found = await self.consul.health.service(
                service, index=index, wait=_duration(wait_s), passing=True
            )
            return int(answered), sorted(map(_instance, found or ()), key=lambda one: one.id)

    async def services(
        self, *, index: int = 0, wait_s: float = DEFAULT_WAIT_S
    ) -> tuple[int, list[str]]:
        with self.translated():
            answered, found = await self.consul.catalog.services(
                index=index, wait=_duration(wait_s)
            )
            return int(answered), sorted(set(found or ()) - {"consul"})

    async def kv_get(
        self, key: str, *, index: int = 0, wait_s: float = DEFAULT_WAIT_S
    ) -> tuple[int, KeyValue | None]:
        with self.translated():
            answered, found = await self.consul.kv.get(
                _checked(key), index=index, wait=_duration(wait_s)
            )
            return int(answered), None if found is None else _key_value(found)

    async def kv_list(
        self, prefix: str, *, index: int = 0, wait_s: float = DEFAULT_WAIT_S
    ) -> tuple[int, list[KeyValue]]:
        with self.translated():
            answered, found = await self.consul.kv.get(
                _checked(prefix), index=index, wait=_duration(wait_s), recurse=True
            )
            return int(answered), sorted(map(_key_value, found or ()), key=lambda one: one.key)

    async def kv_put(self, key: str, value: bytes, *, cas: int | None = None) -> bool:
        with self.translated():
            return bool(await self.consul.kv.put(_checked(key), value, cas=cas))

    async def kv_delete(self, key: str, *, cas: int | None = None) -> bool:
        with self.translated():
            return bool(await self.consul.kv.delete(_checked(key), cas=cas))

    async def leader(self) -> str:
        with self.translated():
            return str(await self.consul.status.leader())

    async def close(self) -> None:
        await asyncio.gather(*(registration.stop() for registration in (*self._registrations,)))
        await self.consul.http.close()

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turns what the libraries raise into `StoreUnavailable`."""
        try:
            yield
        except (ACLDisabled, ACLPermissionDenied) as fault:
            raise self._unavailable(f"refused the token: {fault}") from fault
        except ConsulException as fault:
            raise self._unavailable(f"answered {fault}") from fault
        except (OriginFailure, Refusal) as fault:
            raise self._unavailable(f"cannot be reached: {fault or fault.code}") from fault
        except (KeyError, TypeError, ValueError) as fault:
            raise self._unavailable(f"answered what cannot be read: {fault!r}") from fault

    def _unavailable(self, what: str) -> StoreUnavailable:
        return StoreUnavailable(f"the registry at {self.address} {what}")

    def __repr__(self) -> str:
        return f"ConsulRegistry({self.address}, {len(self._registrations)} registered)"


class ConsulRegistration:
    """A service under a TTL check, renewed every third of it."""

    def __init__(
        self, registry: ConsulRegistry, instance: Instance, ttl_s: float, clock: Clock
    ) -> None:
        self.instance = instance
        self._registry = registry
        self._ttl_s = ttl_s
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._gone = False

    async def enter(self) -> None:
        """Writes the whole registration, its check passing."""
        instance = self.instance
        check = Check.ttl(_duration(self._ttl_s)) | {
            "checkid": self._check,
            "name": f"lease of {instance.id}",
            "status": "passing",
            "DeregisterCriticalServiceAfter": _REAP_AFTER,
        }
        with self._registry.translated():
            await self._registry.consul.agent.service.register(
                instance.service,
                service_id=instance.id,
                address=instance.host,
                port=instance.port,
                meta=instance.meta,
                check=check,
                replace_existing_checks=True,
            )

    def start(self, ended: Callable[[ConsulRegistration], None]) -> None:
        self._task = background.start(self._renew(), f"the lease of {self.instance.id}")
        self._task.add_done_callback(lambda _: ended(self))

    async def deregister(self) -> None:
        """When the registry cannot be told (`StoreUnavailable`), the lease ends by itself."""
        await self.stop()
        if not self._gone:
            with self._registry.translated():
                await self._registry.consul.agent.service.deregister(self.instance.id)
            self._gone = True

    async def stop(self) -> None:
        """Ends the heartbeats only."""
        if self._task is not None:
            await background.stop(self._task)

    @property
    def _check(self) -> str:
        return f"service:{self.instance.id}"

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(self._ttl_s / 3 * (0.9 + 0.1 * self._clock.random()))
            with contextlib.suppress(StoreUnavailable):
                if not await self._known():
                    await self.enter()

    async def _known(self) -> bool:
        """Renews the lease; False when the registry answers that it knows no such check.

        It says so with 404, older versions with 500.
        """
        with self._registry.translated():
            try:
                return bool(await self._registry.consul.agent.check.ttl_pass(self._check))
            except (ACLDisabled, ACLPermissionDenied):
                raise
            except ConsulException:
                return False

    def __repr__(self) -> str:
        state = "gone" if self._gone else "registered"
        return f"ConsulRegistration({self.instance.id}, {state})"


def _checked(key: str) -> str:
    """URLs cannot carry a leading slash or dot segments: they would name another key."""
    if key.startswith("/") or {".", ".."} & set(key.split("/")):
        raise Faulty(f"a registry key has no leading slash and no dot segments: {key!r}")
    return key


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


def _blocking_s(params: Params | None) -> float:
    """How long the server may hold the answer back: `wait` and its jitter of a sixteenth."""
    wait = dict(params or ()).get("wait")
    return 0.0 if wait is None else int(wait.removesuffix("ms")) / 1000 * 17 / 16


def _instance(entry: Mapping[str, Any]) -> Instance:
    service = entry["Service"]
    return Instance(
        id=service["ID"],
        service=service["Service"],
        host=service["Address"] or entry["Node"]["Address"],
        port=service["Port"],
        meta=service.get("Meta") or {},
    )


def _key_value(entry: Mapping[str, Any]) -> KeyValue:
    return KeyValue(entry["Key"], entry["Value"] or b"", entry["ModifyIndex"])
