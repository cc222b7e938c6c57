"""What is decided before anything starts, and what is refused with its way out."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis.clock import ManualClock
from chassis.errors import ConfigurationFault
from deploy.servers import processes
from deploy.servers.arrange import Arrangement, Asked, arrange, refused
from deploy.servers.folders import Folders
from deploy.servers.installed import Installed
from deploy.servers.kinds import NAMES, servers
from deploy.servers.placement import Taken, place
from deploy.servers.processes import Identity
from deploy.servers.room import available_memory, disk_fault, memory_fault
from deploy.servers.state import InstanceState, ServerState
from tests.support.system import eventually

KINDS = servers()


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path)
    made.root.mkdir()
    return made


@pytest.fixture
def alive(tmp_path: Path) -> Iterator[Identity]:
    process = processes.spawn(["sleep", "1000"], {}, tmp_path, tmp_path / "log", tmp_path)
    yield process
    processes.send(process, signal.SIGKILL)


def decide(folders: Folders, name: str, **asked: object) -> Arrangement:
    wish = Asked(**{"ports": {}, "sizes": {}, "auth": frozenset(), **asked})  # type: ignore[arg-type]
    kinds = servers([name])
    (one,) = arrange(kinds, {name: Installed("1", Path("/"))}, folders, wish, ManualClock())
    return one


def test_ports_stay_the_same_from_start_to_start(folders: Folders) -> None:
    first = decide(folders, "consul")
    assert decide(folders, "consul").state == first.state


def test_a_port_can_be_given_and_changed_later(folders: Folders) -> None:
    assert decide(folders, "redis", ports={"redis": 20_001}).setup.first.port == 20_001
    assert decide(folders, "redis", ports={"redis": 20_002}).setup.first.port == 20_002
    assert decide(folders, "redis").setup.first.port == 20_002


def test_secrets_are_made_once_and_only_their_owner_reads_them(folders: Folders) -> None:
    first = decide(folders, "s3").setup.secrets
    assert decide(folders, "s3").setup.secrets == first
    file = folders.root / "s3" / "secrets.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_password_asked_for_later_is_kept_from_then_on(folders: Folders) -> None:
    assert "password" not in decide(folders, "redis").setup.secrets
    secured = decide(folders, "redis", auth=frozenset({"redis"})).setup.secrets
    assert decide(folders, "redis").setup.secrets == secured and secured["password"]


def test_a_taken_port_is_refused_before_anything_is_written(folders: Folders) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(ConfigurationFault, match=f"port {port} of 127.0.0.1 is taken"):
            decide(folders, "redis", ports={"redis": port})
    assert list(folders.root.iterdir()) == []


def test_everything_that_is_in_the_way_is_said_at_once(folders: Folders) -> None:
    kinds = servers(["kafka", "redis", "s3"])
    installed = dict.fromkeys(kinds, Installed("1", Path("/")))
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        wish = Asked({"redis": port}, {"kafka": 9}, frozenset({"s3"}))
        with pytest.raises(ConfigurationFault) as failed:
            arrange(kinds, installed, folders, wish, ManualClock())
    said = failed.value.faults
    assert len(said) == 3
    assert "not 9" in said[0] and "leave out --auth s3" in said[1] and f"port {port}" in said[2]


def test_a_process_that_a_launcher_did_not_live_to_remember_is_found(
    folders: Folders, tmp_path: Path
) -> None:
    first = decide(folders, "redis")
    orphan = spawn(tmp_path, "redis")
    try:
        eventually(lambda: processes.instances(tmp_path), what="the mark")
        again = decide(folders, "redis")
        assert again.state.instances[0].process == orphan
        assert again.setup.instances == first.setup.instances
        assert folders.state.read()["redis"] == again.state
    finally:
        processes.send(orphan, signal.SIGKILL)


def test_a_process_of_which_nothing_is_remembered_is_no_place_for_another(
    folders: Folders, tmp_path: Path
) -> None:
    orphan = spawn(tmp_path, "kafka-2")
    try:
        eventually(lambda: processes.instances(tmp_path), what="the mark")
        with pytest.raises(ConfigurationFault, match=r"kafka-2 runs here.*servers down kafka"):
            decide(folders, "kafka")
        assert decide(folders, "redis")
    finally:
        processes.send(orphan, signal.SIGKILL)


def spawn(home: Path, instance: str) -> Identity:
    return processes.spawn(["sleep", "1000"], {}, home, home / "log", home, instance)


def test_servers_do_not_share_a_port(folders: Folders) -> None:
    kinds = {name: KINDS[name] for name in NAMES}
    installed = dict.fromkeys(NAMES, Installed("1", Path("/")))
    listed = arrange(kinds, installed, folders, Asked({}, {}, frozenset()), ManualClock())
    ports = [port for one in listed for i in one.setup.instances for port in i.ports.values()]
    assert len(ports) == len(set(ports)) == 15


@pytest.mark.parametrize(("name", "size"), [("kafka", 0), ("kafka", 4), ("redis", 2)])
def test_a_size_that_cannot_be_is_refused(name: str, size: int) -> None:
    (said,) = refused(KINDS[name], None, Asked({}, {name: size}, frozenset()))
    assert f"not {size}" in said


def test_what_runs_is_not_changed_under_way(alive: Identity) -> None:
    state = ServerState([InstanceState("kafka", "127.0.0.1", {"main": 20_000}, alive)])
    wish = Asked({"kafka": 1}, {"kafka": 3}, frozenset({"kafka"}))
    said = refused(KINDS["kafka"], state, wish)
    assert len(said) == 3
    assert "has the data of 1 and you ask for 3" in said[0]
    assert all("`stagedoor servers down kafka` first" in one for one in said[1:])


def test_what_runs_as_asked_is_fine(alive: Identity) -> None:
    state = ServerState([InstanceState("kafka", "127.0.0.1", {"main": 20_000}, alive)])
    wish = Asked({"kafka": 20_000}, {"kafka": 1}, frozenset())
    assert refused(KINDS["kafka"], state, wish) == []


def test_too_little_memory_is_said_with_who_wants_it() -> None:
    said = memory_fault({"kafka": 1200 << 20, "redis": 30 << 20, "s3": 0}, 1 << 30)
    assert said is not None
    assert "1024 MB are available and about 1230 MB are needed (kafka 1200 MB, redis 30 MB)" in said
    assert memory_fault({"kafka": 1}, 1) is None


def test_too_little_disk_is_said_with_the_way_out(tmp_path: Path) -> None:
    said = disk_fault(tmp_path, 1 << 60, "STAGEDOOR_HOME")
    assert said is not None and "make room, or set STAGEDOOR_HOME" in said
    assert disk_fault(tmp_path, 1, "STAGEDOOR_HOME") is None


def test_available_memory_is_what_the_kernel_says() -> None:
    assert available_memory("MemTotal: 9 kB\nMemAvailable:   2048 kB\n") == 2 << 20
    assert available_memory() > 0


def test_every_unknown_name_is_said_at_once() -> None:
    with pytest.raises(ConfigurationFault) as failed:
        servers(["kafka", "mysql", "etcd"])
    assert len(failed.value.faults) == 2


@pytest.mark.parametrize(("name", "secured"), [("redis", "reddis"), ("consul", "consul")])
def test_a_password_that_nobody_would_ask_for_is_refused(
    folders: Folders, name: str, secured: str
) -> None:
    with pytest.raises(ConfigurationFault, match=f"--auth.*{name}"):
        decide(folders, name, auth=frozenset({secured}))
    assert list(folders.root.iterdir()) == []


def test_a_port_from_which_not_all_can_count_up_is_refused(folders: Folders) -> None:
    with pytest.raises(ConfigurationFault, match="would need port 65537"):
        decide(folders, "kafka", ports={"kafka": 65535}, sizes={"kafka": 3})


def test_damaged_secrets_are_named_with_what_to_do(folders: Folders) -> None:
    decide(folders, "s3")
    (folders.root / "s3" / "secrets.json").write_text("{")
    with pytest.raises(ConfigurationFault, match=r"secrets\.json.*bring it back"):
        decide(folders, "s3")


class Stuttering(ManualClock):
    """Draws every number many times over."""

    drawn = 0

    def random(self) -> float:
        self.drawn += 1
        return self.drawn // 40 / 100


def test_a_server_draws_no_port_twice() -> None:
    kind = servers(["consul"])["consul"]
    state = place(kind, 1, None, Taken(), Stuttering())
    listed = [*state.instances[0].ports.values()]
    assert len(listed) == len(set(listed)) == len(kind.ports)
