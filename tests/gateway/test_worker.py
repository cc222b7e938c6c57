"""A worker's life: starting, changing its rules, draining, sharing its port."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from chassis.clock import ManualClock
from chassis.discovery import Instance
from chassis.discovery.names import Resolve
from chassis.errors import ConfigurationFault, StoreUnavailable
from gateway import app
from gateway.settings import Settings, address
from gateway.worker import RESOLVE_S
from tests.support.gateways import GET, Raw, fields_of, one_rule, running, status_of
from tests.support.scripted import OK, Holds, Reads, Scripted, Sends, answers, eventually


class Registered:
    """A registration that notes when it ends."""

    def __init__(self, instance: Instance, registry: FakeRegistry) -> None:
        self.instance = instance
        self._registry = registry

    async def deregister(self) -> None:
        self._registry.answer()
        self._registry.notes.append("deregistered")


class FakeRegistry:
    """Registers, and knows one instance of every service."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.away = False
        self.notes: list[str] = []
        self.registered: list[Instance] = []

    def answer(self) -> None:
        if self.away:
            self.notes.append("away")
            raise StoreUnavailable("the registry is away")

    async def register(self, instance: Instance, *, ttl_s: float = 3.0) -> Registered:
        self.answer()
        self.registered.append(instance)
        return Registered(instance, self)

    async def instances(
        self, service: str, *, index: int = 0, wait_s: float = 30.0
    ) -> tuple[int, list[Instance]]:
        if index:
            await asyncio.Event().wait()
        return 1, [Instance("one", service, "127.0.0.1", self.port)]

    async def close(self) -> None:
        self.notes.append("closed")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the gateway asked the registry to {name}")


async def test_it_registers_itself_and_forwards_to_registered_services(tmp_path: Path) -> None:
    rules = one_rule(1).replace('instances: ["127.0.0.1:1"]', "service: catalog")
    async with Scripted(answers()) as upstream:
        registry = FakeRegistry(upstream.port)
        async with running(tmp_path, rules, registry=registry) as worker:
            await eventually(lambda: bool(registry.registered))
            me = registry.registered[0]
            assert (me.service, me.port) == ("gateway", worker.port)
            assert me.meta["admin"] == f"127.0.0.1:{worker.admin_port}"
            await eventually(lambda: bool(worker.gateway.origins["up"].instances()))
            async with Raw(worker.port) as client:
                client.send(GET)
                assert (await client.answer())[1] == b"ok"
    assert registry.notes == ["deregistered", "closed"]


async def test_it_forwards_to_the_addresses_of_a_name_from_its_first_request_on(
    tmp_path: Path,
) -> None:
    async with Scripted(answers()) as upstream:
        rules = one_rule(1).replace("instances: [", "dns: ").replace("127.0.0.1:1", "NAME")
        rules = rules.replace("]}", "}").replace("NAME", f"localhost:{upstream.port}")
        async with running(tmp_path, rules) as worker, Raw(worker.port) as client:
            client.send(GET)
            assert (await client.answer())[1] == b"ok"
            told = worker.clusters()[0]
            assert told["dns"] == f"localhost:{upstream.port}"
            assert f"127.0.0.1:{upstream.port}" in [one["id"] for one in told["instances"]]


NAMED = one_rule(1).replace('instances: ["127.0.0.1:1"]', "dns: shop.example:80")


async def build(folder: Path, rules: str, clock: ManualClock, resolve: Resolve) -> app.Worker:
    """One whose names the test resolves."""
    (folder / "rules.yaml").write_text(rules)
    settings = Settings(
        rules=folder / "rules.yaml",
        listen="127.0.0.1:0",
        admin="127.0.0.1:0",
        home=folder / "home",
        discovery_interval_s=0.01,
    )
    return await app.build(settings, clock=clock, resolve=resolve)


async def refused_by(worker: app.Worker) -> bool:
    """Whether its answer says that there is no instance."""
    async with Raw(worker.port) as client:
        client.send(GET)
        head, body = await client.answer()
        return status_of(head) == 503 and json.loads(body)["code"] == "no_instances"


async def test_a_name_that_nobody_tells_of_holds_a_start_up_only_for_a_moment(
    tmp_path: Path,
) -> None:
    asked = asyncio.Event()

    async def resolve(host: str, port: int) -> tuple[str, ...]:
        asked.set()
        return await asyncio.get_running_loop().create_future()

    clock = ManualClock()
    worker = await build(tmp_path, NAMED, clock, resolve)
    try:
        starting = asyncio.create_task(app.start(worker))
        async with asyncio.timeout(5):
            await asked.wait()
            await clock.advance(RESOLVE_S - 0.01)
            assert (worker.ready(), worker.port, starting.done()) == (False, 0, False)
            await clock.advance(0.02)
            await starting
        assert worker.ready() and await refused_by(worker)
    finally:
        await worker.close()


@pytest.mark.parametrize("answer", [OSError(-2, "no such name"), ()])
async def test_a_name_that_is_known_to_mean_nothing_holds_no_start_up(
    answer: OSError | tuple[str, ...], tmp_path: Path
) -> None:
    async def resolve(host: str, port: int) -> tuple[str, ...]:
        if isinstance(answer, OSError):
            raise answer
        return answer

    worker = await build(tmp_path, NAMED, ManualClock(), resolve)
    try:
        async with asyncio.timeout(5):
            await app.start(worker)
        assert await refused_by(worker)
    finally:
        await worker.close()


async def test_it_serves_without_the_registry_and_enters_it_when_it_comes(tmp_path: Path) -> None:
    registry = FakeRegistry()
    registry.away = True
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), registry=registry) as worker,
        Raw(worker.port) as client,
    ):
        await eventually(lambda: len(registry.notes) > 1)
        assert worker.ready()
        client.send(GET)
        assert (await client.answer())[1] == b"ok"
        registry.away = False
        await eventually(lambda: bool(registry.registered))


async def test_a_registry_that_is_gone_does_not_keep_it_from_draining(tmp_path: Path) -> None:
    registry = FakeRegistry()
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), registry=registry) as worker,
    ):
        await eventually(lambda: bool(registry.registered))
        registry.away = True
        await worker.shut()
    assert registry.notes == ["away", "closed"]


async def test_a_changed_file_takes_over_and_a_bad_one_does_not(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        file.write_text("rules: [{name: r, reply: {status: 418}}]")
        await eventually(lambda: worker.gateway.serving.snapshot.version == 2)
        client.send(GET)
        assert status_of((await client.answer())[0]) == 418
        file.write_text("rules: [{name: r, forward: nowhere}]")
        await eventually(lambda: worker.live.counters.refused == 1)
        client.send(GET)
        assert status_of((await client.answer())[0]) == 418


async def test_the_admin_port_tells_readiness_metrics_and_clusters(tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{worker.admin_port}") as admin,
    ):
        client.send(GET)
        await client.answer()
        assert (await admin.get("/ready")).status_code == 200
        metrics = (await admin.get("/metrics")).text
        assert (
            'gateway_requests_total{code="200",injected="false",method="GET",'
            'outcome="success",route="all"} 1.0'
        ) in metrics
        assert (
            'gateway_origin_attempts_total{attempt="initial",cluster="up",status="200"} 1.0'
            in metrics
        )
        cluster = (await admin.get("/clusters")).json()[0]
        assert cluster["pools"] == {
            f"127.0.0.1:{upstream.port}": {"open": 1, "idle": 1, "waiting": 0}
        }


async def test_a_drain_finishes_what_is_under_way_and_nothing_else(tmp_path: Path) -> None:
    go = asyncio.Event()
    registry = FakeRegistry()
    async with (
        Scripted([Reads(), Holds(go), Sends(OK)]) as upstream,
        running(tmp_path, one_rule(upstream.port), registry=registry) as worker,
        Raw(worker.port) as idle,
        Raw(worker.port) as busy,
    ):
        busy.send(GET)
        await eventually(lambda: bool(upstream.received) and len(worker.listener.connections) == 2)
        shutting = asyncio.create_task(worker.shut())
        assert await idle.rest() == b""
        assert registry.notes == ["deregistered"]
        assert not worker.ready()
        go.set()
        head, body = await busy.answer()
        assert (fields_of(head)[b"connection"], body) == (b"close", b"ok")
        assert await busy.rest() == b""
        await shutting
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", worker.port)


async def test_what_does_not_end_by_the_deadline_is_cut(tmp_path: Path) -> None:
    async with (
        Scripted([Reads()]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        worker.settings = Settings(rules=tmp_path, drain_s=0.05)
        client.send(GET)
        await eventually(lambda: bool(upstream.received))
        await worker.shut()
        assert await client.rest() == b""
        await eventually(lambda: worker.gateway.in_flight.now == 0)


async def test_two_workers_share_one_port(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with Scripted(answers()) as upstream:
        rules = one_rule(upstream.port)
        async with running(tmp_path / "one", rules, reuse_port=True) as one:
            port = one.port
            async with running(tmp_path / "two", rules, port=port, reuse_port=True) as two:
                clients = [Raw(port) for _ in range(40)]
                for client in clients:
                    async with client:
                        client.send(GET)
                        assert (await client.answer())[1] == b"ok"
                told = [_requests(one), _requests(two)]
    assert sum(told) == 40
    assert min(told) > 0


def _requests(worker: app.Worker) -> int:
    return sum(child.n for child in worker.gateway.observer.requests._children.values())


async def test_one_json_line_a_request_without_its_query(tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET.replace(b"/ ", b"/p?token=secret "))
        await client.answer()
        client.send(b"NONSENSE\r\n\r\n" + b"x" * 40)
        await client.rest()
        instance = worker.telemetry.instance
    text = (tmp_path / "home" / "log" / f"{instance}.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    served, refused = (line for line in lines if "status" in line)
    assert (served["route"], served["path"], served["status"]) == ("all", "/p?…", 200)
    assert (served["outcome"], served["attempts"], served["bytes_out"]) == ("success", 1, 2)
    assert len(served["trace"]) == 32
    assert (refused["status"], refused["outcome"]) == (400, "client_error")
    assert "secret" not in text


async def test_a_token_in_a_path_is_cut_in_log_and_span(tmp_path: Path) -> None:
    token = f"k1.{'x' * 90}.{'y' * 43}.m3u8"
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET.replace(b"/ ", f"/v1/manifests/{token} ".encode()))
        await client.answer()
        telemetry = worker.telemetry
        trace_id = upstream.received.split(b"traceparent: 00-")[1][:32].decode()
        spans = str(telemetry.trace(trace_id))
    text = (tmp_path / "home" / "log" / f"{telemetry.instance}.jsonl").read_text()
    assert "/v1/manifests/k1." in text and "/v1/manifests/k1." in spans
    assert "yyy" not in text + spans


async def test_a_span_is_kept_for_every_request(tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        theirs = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        client.send(GET.replace(b"Host", b"traceparent: " + theirs + b"\r\nHost"))
        await client.answer()
        trace_id = upstream.received.split(b"traceparent: 00-")[1][:32].decode()
        (span,) = worker.telemetry.trace(trace_id)
    assert trace_id != "0af7651916cd43dd8448eb211c80319c"
    assert span["attributes"]["http.response.status_code"] == 200
    assert span["attributes"]["link"] == theirs.decode()


async def test_a_trusted_proxys_trace_goes_on(tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), trusted_proxies=("127.0.0.0/8",)) as worker,
        Raw(worker.port) as client,
    ):
        theirs = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        client.send(GET.replace(b"Host", b"traceparent: " + theirs + b"\r\nHost"))
        await client.answer()
    assert b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-" in upstream.received
    assert theirs not in upstream.received


async def test_rules_that_name_a_service_need_a_registry(tmp_path: Path) -> None:
    rules = one_rule(1).replace('instances: ["127.0.0.1:1"]', "service: catalog")
    with pytest.raises(ConfigurationFault, match="--registry"):
        async with running(tmp_path, rules):
            pass


async def test_a_live_change_that_needs_a_registry_leaves_the_rules_in_place(
    tmp_path: Path,
) -> None:
    file = tmp_path / "rules.yaml"
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        before = worker.gateway.serving
        file.write_text(one_rule(1).replace('instances: ["127.0.0.1:1"]', "service: catalog"))
        await eventually(lambda: worker.live.counters.refused == 1)
        assert worker.gateway.serving is before
        file.write_text("rules: [{name: r, reply: {status: 418}}]")
        await eventually(lambda: worker.gateway.serving is not before)
        client.send(GET)
        assert status_of((await client.answer())[0]) == 418


async def test_a_port_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with running(tmp_path / "one", one_rule(1)) as one:
        with pytest.raises(ConfigurationFault, match="cannot listen"):
            async with running(tmp_path / "two", one_rule(1), port=one.port):
                pass


@pytest.mark.parametrize("text", ["8080", "a:b", "a:99999", ":80"])
def test_an_unusable_address_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ConfigurationFault, match="host:port"):
        address(text, "the admin address")
