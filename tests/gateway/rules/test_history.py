"""Versions on disk: monotonic, whole, and the last good one survives anything."""

import multiprocessing
from pathlib import Path

import pytest

from chassis.clock import SYSTEM, ManualClock
from chassis.errors import StoreUnavailable
from gateway.rules.history import KEPT, History


def test_versions_count_up_and_are_kept_newest_first(tmp_path):
    history = History(tmp_path / "rules", ManualClock())
    for text in (b"one", b"two"):
        history.record(text, author="me", why="because")
    assert [(v.version, v.source) for v in history.versions()] == [(2, "two"), (1, "one")]
    assert history.get(1).author == "me"
    assert history.get(9) is None


def test_the_newest_document_again_is_no_new_version(tmp_path):
    history = History(tmp_path, ManualClock())
    first = history.record(b"one", author="me", why="")
    assert history.record(b"one", author="you", why="") == first
    history.record(b"two", author="me", why="")
    assert history.record(b"one", author="me", why="back").version == 3


@pytest.mark.parametrize("damage", [b"", b"{", b'{"version": 3}'])
def test_a_torn_version_is_passed_over_and_its_number_not_reused(tmp_path, damage):
    history = History(tmp_path, ManualClock())
    history.record(b"one", author="me", why="")
    (tmp_path / "000002.json").write_bytes(damage)
    assert history.latest().source == "one"
    assert history.record(b"three", author="me", why="").version == 3


def test_a_version_that_was_tampered_with_is_passed_over(tmp_path):
    history = History(tmp_path, ManualClock())
    history.record(b"one", author="me", why="")
    history.record(b"two", author="me", why="")
    file = tmp_path / "000002.json"
    file.write_bytes(file.read_bytes().replace(b'"two"', b'"bad"'))
    assert history.latest().source == "one"


def test_only_the_newest_are_kept_and_nothing_else_is_left_behind(tmp_path):
    history = History(tmp_path, ManualClock())
    for number in range(KEPT + 5):
        history.record(b"%d" % number, author="me", why="")
    assert [v.version for v in history.versions()] == list(range(KEPT + 5, 5, -1))
    assert len(list(tmp_path.iterdir())) == KEPT


def test_a_state_directory_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "state").write_text("a file is in the way")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        History(tmp_path / "state", ManualClock()).record(b"x", author="me", why="")


def _record_many(folder: Path, who: int) -> None:
    history = History(folder, SYSTEM)
    for number in range(10):
        history.record(b"%d of %d" % (number, who), author=str(who), why="")


def test_several_processes_never_share_a_version(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_record_many, args=(tmp_path, n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert [v.version for v in History(tmp_path, SYSTEM).versions()] == list(range(20, 0, -1))


def test_a_version_recorded_in_between_is_the_one_that_both_have(tmp_path):
    class Overtaken(History):
        by = None

        def latest(self):
            found = super().latest()
            if self.by is None:
                self.by = History(tmp_path, ManualClock()).record(b"one", author="other", why="")
            return found

    overtaken = Overtaken(tmp_path, ManualClock())
    assert overtaken.record(b"one", author="me", why="") == overtaken.by
    assert len(overtaken.versions()) == 1
