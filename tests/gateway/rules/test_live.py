"""Live change with a real file: swapped whole, or refused with the last good one serving."""

import asyncio
import os
from collections.abc import Callable

import pytest

from chassis.clock import SYSTEM
from chassis.errors import ConfigurationFault
from gateway.rules.build import RulesFault
from gateway.rules.live import LiveRules
from gateway.rules.watch import POLL_S

GOOD = "clusters: {a: {service: a}}\nrules: [{name: %s, forward: a}]\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD % "one")
    return path


@pytest.fixture
async def live(file, tmp_path):
    said: list[tuple[str, dict[str, object]]] = []
    rules = LiveRules(
        file, tmp_path / "state", SYSTEM, say=lambda event, **fields: said.append((event, fields))
    )
    rules.said = said  # type: ignore[attr-defined]
    await rules.start()
    yield rules
    await rules.close()


async def until(condition: Callable[[], bool], what: str, seconds: float = 5.0) -> None:
    deadline = SYSTEM.monotonic() + seconds
    while not condition():
        assert SYSTEM.monotonic() < deadline, f"never: {what}"
        await SYSTEM.sleep(0.005)


def names(live: LiveRules) -> list[str]:
    return list(live.snapshot.routes)


async def test_a_changed_file_is_live_within_a_quarter_of_a_second(live, file):
    heard = []
    live.subscribe(heard.append)
    before = live.snapshot
    delays = []
    for name in ("two", "three", "four"):
        began = SYSTEM.monotonic()
        file.write_text(GOOD % name)
        await until(lambda name=name: names(live) == [name], f"{name} serves")
        delays.append(SYSTEM.monotonic() - began)
    assert min(delays) < 0.25, delays
    assert [snapshot.version for snapshot in heard] == [2, 3, 4]
    assert list(before.routes) == ["one"], "a request keeps the snapshot it started with"


async def test_an_atomic_replacement_is_seen(live, file, tmp_path):
    other = tmp_path / "new"
    other.write_text(GOOD % "two")
    other.replace(file)
    await until(lambda: names(live) == ["two"], "the replacement serves")


async def test_a_bad_document_leaves_the_last_good_one_and_says_every_fault(live, file):
    file.write_text("clusters: {a: {servic: a}}\nrules:\n- {name: x, forward: nowhere}\n")
    await until(lambda: live.counters.refused == 1, "the document is refused")
    assert names(live) == ["one"]
    assert [fault.line for fault in live.faults] == [1, 3]
    event, fields = live.said[-1]
    assert (event, fields["still_serving"]) == ("rules_refused", 1)
    assert len(fields["faults"]) == 2
    file.write_text(GOOD % "mended")
    await until(lambda: names(live) == ["mended"], "the mended one serves")
    assert not live.faults


async def test_a_good_document_again_after_a_bad_one_clears_the_faults(live, file):
    file.write_text("rules: [")
    await until(lambda: bool(live.faults), "the document is refused")
    file.write_text(GOOD % "one")
    await until(lambda: not live.faults, "the faults are cleared")
    assert live.snapshot.version == 1


async def test_a_file_written_in_pieces_is_read_once_it_rests(live, file):
    whole = "clusters: {a: {service: a}}\nrules:\n" + "".join(
        f"- {{name: r{n}, match: {{path: /{n}}}, forward: a}}\n" for n in range(8)
    )
    with file.open("w") as writing:
        for start in range(0, len(whole), 60):
            writing.write(whole[start : start + 60])
            writing.flush()
            await SYSTEM.sleep(0.02)
    await until(lambda: len(names(live)) == 8, "the whole document serves")
    assert live.counters.changes == 2
    assert live.counters.refused == 0


async def test_a_burst_of_writes_is_few_changes(live, file):
    for number in range(50):
        file.write_text(GOOD % f"r{number}")
        await SYSTEM.sleep(0.002)
    await until(lambda: names(live) == ["r49"], "the last write serves")
    assert live.counters.changes <= 4


async def test_a_file_that_goes_away_and_comes_back_changes_nothing_meanwhile(live, file):
    file.unlink()
    await SYSTEM.sleep(0.3)
    assert names(live) == ["one"]
    file.write_text(GOOD % "back")
    await until(lambda: names(live) == ["back"], "the file that is back serves")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
async def test_a_pipe_or_device_in_place_of_the_file_does_not_end_the_watch(live, file, make):
    file.unlink()
    make(file)
    await SYSTEM.sleep(3 * POLL_S)
    assert names(live) == ["one"]
    away = file.with_name("away")
    file.rename(away)
    file.write_text(GOOD % "two")
    await until(lambda: names(live) == ["two"], "the file after it serves")


async def test_a_file_without_end_is_read_no_further_than_a_document_may_be(live, file):
    with file.open("wb") as endless:
        endless.truncate(1 << 40)
    await until(lambda: live.counters.refused == 1, "it is refused")
    assert "larger than" in str(live.faults)


async def test_a_start_on_a_bad_file_serves_the_last_good_version(live, file, tmp_path):
    file.write_text(GOOD % "two")
    await until(lambda: names(live) == ["two"], "two serves")
    await live.close()
    for damage in ("rules: [", None):
        file.write_text(damage) if damage else file.unlink()
        again = LiveRules(file, tmp_path / "state", SYSTEM)
        await again.start()
        assert names(again) == ["two"]
        assert again.snapshot.version == 2
        assert again.faults
        await again.close()


async def test_a_start_on_a_bad_file_without_a_last_good_version_says_every_fault(file, tmp_path):
    file.write_text("clusters: {a: {}}\nrules: [{name: x, forward: b}]\n")
    live = LiveRules(file, tmp_path / "empty", SYSTEM)
    with pytest.raises(RulesFault) as refused:
        await live.start()
    assert len(refused.value.faults) == 2


async def test_workers_that_follow_one_file_agree_on_the_version(live, file, tmp_path):
    other = LiveRules(file, tmp_path / "state", SYSTEM)
    await other.start()
    file.write_text(GOOD % "two")
    await until(lambda: names(live) == names(other) == ["two"], "both serve two")
    assert (live.snapshot.version, other.snapshot.version) == (2, 2)
    await other.close()


async def test_rules_change_even_where_the_state_cannot_be_written(file, tmp_path):
    (tmp_path / "blocked").write_text("in the way")
    said = []
    live = LiveRules(file, tmp_path / "blocked", SYSTEM, say=lambda event, **_: said.append(event))
    await live.start()
    assert names(live) == ["one"]
    assert said == ["rules_not_kept", "rules_changed"]
    await live.close()


async def test_a_failing_listener_keeps_nobody_from_the_new_rules(live, file):
    heard = []

    def fails(snapshot):
        raise RuntimeError("broken listener")

    live.subscribe(fails)
    live.subscribe(heard.append)
    file.write_text(GOOD % "two")
    await until(lambda: bool(heard), "the second listener hears")
    file.write_text(GOOD % "three")
    await until(lambda: names(live) == ["three"], "the file is still followed")
    assert [event for event, _ in live.said].count("rules_listener_failed") == 2


async def test_a_sound_document_that_this_process_cannot_serve_is_refused(file, tmp_path):
    def accept(snapshot):
        if "two" in snapshot.routes:
            raise ConfigurationFault(["no registry is set"])

    live = LiveRules(file, tmp_path / "state", SYSTEM, accept=accept)
    await live.start()
    with pytest.raises(RulesFault, match="no registry is set"):
        await live.propose((GOOD % "two").encode(), author="me", why="")
    assert names(live) == ["one"]
    assert [version.version for version in live.history.versions()] == [1]
    await live.close()


async def test_closing_ends_the_watch(live):
    await live.close()
    await live.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "rules-watch"]
