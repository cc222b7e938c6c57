"""One service in this process, without sockets: built by its own root on temporary files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from chassis.clock import ManualClock
from chassis.contracts.wire import Ans, Call, Req
from chassis.discovery import Instance, KeyValue
from chassis.identity import Keyring, Passport, PassportSigner, Seal
from chassis.service import Chassis, ProcessSettings, Service
from chassis.telemetry import Telemetry

MEMBER = Passport(
    account_id="a1", device_id="d1", profile_id="p1", country="US", scopes=("member",)
)


class StillRegistry:
    """A registry whose instances are what the test put in; nothing ever changes."""

    def __init__(self, instances: Mapping[str, list[Instance]] | None = None) -> None:
        self.listed = dict(instances or {})

    async def register(self, instance: Instance, *, ttl_s: float = 3.0) -> Any:
        raise NotImplementedError

    async def instances(
        self, service: str, *, index: int = 0, wait_s: float = 30.0
    ) -> tuple[int, list[Instance]]:
        if index:
            await never()
        return 1, self.listed.get(service, [])

    async def services(self, *, index: int = 0, wait_s: float = 30.0) -> tuple[int, list[str]]:
        return 1, sorted(self.listed)

    async def kv_get(
        self, key: str, *, index: int = 0, wait_s: float = 30.0
    ) -> tuple[int, KeyValue | None]:
        return 1, None

    async def kv_list(
        self, prefix: str, *, index: int = 0, wait_s: float = 30.0
    ) -> tuple[int, list[KeyValue]]:
        return 1, []

    async def kv_put(self, key: str, value: bytes, *, cas: int | None = None) -> bool:
        return True

    async def kv_delete(self, key: str, *, cas: int | None = None) -> bool:
        return True

    async def leader(self) -> str:
        return "127.0.0.1:1"

    async def close(self) -> None:
        pass


class MovingRegistry(StillRegistry):
    """A registry whose instances the test moves; who watches hears of it at once."""

    def __init__(self, instances: Mapping[str, list[Instance]] | None = None) -> None:
        super().__init__(instances)
        self._index = 1
        self._moved = asyncio.Event()

    def move(self, service: str, *instances: Instance) -> None:
        self.listed[service] = list(instances)
        self._index += 1
        self._moved.set()

    async def instances(
        self, service: str, *, index: int = 0, wait_s: float = 30.0
    ) -> tuple[int, list[Instance]]:
        while index >= self._index:
            self._moved.clear()
            await self._moved.wait()
        return self._index, self.listed.get(service, [])


async def never() -> None:
    """Waits until cancelled."""
    await asyncio.get_running_loop().create_future()


class InProcess:
    """A client of a service that runs in this process."""

    def __init__(self, service: Service, chassis: Chassis, http: httpx.AsyncClient) -> None:
        self.service = service
        self.chassis = chassis
        self.http = http
        self._signer = PassportSigner(chassis.seal)

    async def call(
        self, call: Call[Req, Ans], request: Req, *, headers: Mapping[str, str] | None = None
    ) -> Ans:
        """The decoded answer; fails the test when it is a problem."""
        response = await self.raw_call(call, request, headers=headers)
        assert response.status_code == 200, response.text
        return msgspec.json.decode(response.content, type=call.answer)

    async def raw_call(
        self, call: Call[Req, Ans], request: Req, *, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        return await self.http.post(
            call.path, content=msgspec.json.encode(request), headers=headers
        )

    async def rest(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        passport: Passport | None = MEMBER,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """A request as the gateway would pass it on; `passport` None leaves it out."""
        sent = dict(headers or {})
        if passport is not None:
            sent["x-passport"] = self._signer.mint(passport).decode()
        content = None if body is None else msgspec.json.encode(body)
        return await self.http.request(method, path, content=content, headers=sent)


@asynccontextmanager
async def in_process(
    name: str,
    build: Callable[..., Awaitable[Service]],
    home: Path,
    *,
    clock: ManualClock | None = None,
    instances: Mapping[str, list[Instance]] | None = None,
    **overrides: Any,
) -> AsyncIterator[InProcess]:
    """Builds `name` on `home` with a manual clock; `overrides` replace its adapters.

    Background functions of the service are not started.
    """
    clock = clock or ManualClock()
    settings = ProcessSettings(home=home)
    (home / "data").mkdir(parents=True, exist_ok=True)
    seal = Seal(Keyring(active="k1", secrets={"k1": "42" * 32}), clock)
    telemetry = Telemetry(name, f"{name}-test", clock, log_file=home / "test.jsonl")
    chassis = Chassis(name, settings, StillRegistry(instances), seal, telemetry, clock)
    service = await build(chassis, **overrides)
    transport = httpx.ASGITransport(app=service.app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as http:
            yield InProcess(service, chassis, http)
    finally:
        for close in reversed(service.closing):
            await close()
        await chassis.close()
        telemetry.close()
