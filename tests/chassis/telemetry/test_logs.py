"""The line log: one JSON value a line, off the loop; losses are counted, secrets never told."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from chassis.clock import ManualClock
from chassis.telemetry import LineLog


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


@pytest.fixture
def log(file: Path) -> LineLog:
    return LineLog(file, ManualClock(now=1000.0), {"service": "things", "instance": "things-1"})


def test_a_line_says_when_who_and_what(log: LineLog, file: Path) -> None:
    log.say("serving", port=80)
    log.close()
    assert lines(file) == [
        {
            "time": 1000.0,
            "service": "things",
            "instance": "things-1",
            "event": "serving",
            "port": 80,
        }
    ]


def test_closing_writes_what_waits_in_its_order(log: LineLog, file: Path) -> None:
    for number in range(500):
        log.request({"number": number})
    log.close()
    assert [line["number"] for line in lines(file)] == list(range(500))


def test_a_log_that_said_nothing_makes_no_file_and_no_thread(log: LineLog, file: Path) -> None:
    before = threading.active_count()
    log.close()
    assert threading.active_count() == before and not file.exists()


def test_lines_are_added_to_those_of_an_earlier_process(log: LineLog, file: Path) -> None:
    file.write_text('{"event":"before"}\n')
    log.say("after")
    log.close()
    assert [line["event"] for line in lines(file)] == ["before", "after"]


@pytest.mark.parametrize(
    "name",
    ["password", "access_token", "tokens", "Authorization", "set-cookie", "x-passport", "pin"],
)
def test_a_field_with_a_secrets_name_is_redacted(log: LineLog, file: Path, name: str) -> None:
    log.say("asked", **{name: "hunter2", "headers": {name: "hunter2", "accept": "*"}})
    log.close()
    (line,) = lines(file)
    assert "hunter2" not in file.read_text()
    assert line["headers"]["accept"] == "*"


@pytest.mark.parametrize("name", ["mapping", "shipping", "pinned", "tokenizer"])
def test_a_name_that_only_contains_such_a_word_is_shown(
    log: LineLog, file: Path, name: str
) -> None:
    log.say("asked", **{name: "shown"})
    log.close()
    assert lines(file)[0][name] == "shown"


def test_what_json_has_no_form_for_is_told_as_text(log: LineLog, file: Path) -> None:
    log.say("refused", why=ValueError("no"), where=Path("/var"))
    log.close()
    (line,) = lines(file)
    assert (line["why"], line["where"]) == ("no", "/var")


def test_lines_that_cannot_be_written_are_counted(tmp_path: Path) -> None:
    log = LineLog(tmp_path / "missing" / "log.jsonl", ManualClock(), {})
    for number in range(3):
        log.say("lost", number=number)
    log.close()
    assert log.dropped == 3


def test_a_disk_that_does_not_keep_up_loses_the_oldest_lines_and_no_time(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    log = LineLog(pipe, ManualClock(), {}, capacity=10)
    log.say("first")
    while log._lines:  # the writer has taken it, and now waits for someone to read the pipe
        os.sched_yield()
    for number in range(15):
        log.say("later", number=number)
    assert log.dropped == 5
    # one that stays open: between two, the writer would find nobody and we wait for it for ever
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log.close()
    told = [json.loads(line) for line in os.read(reader, 1 << 16).splitlines()]
    os.close(reader)
    assert [line.get("number") for line in told] == [None, *range(5, 15)]


def test_without_a_file_lines_go_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    log = LineLog(None, ManualClock(), {})
    log.say("here")
    log.close()
    assert json.loads(capfd.readouterr().err)["event"] == "here"


def test_many_threads_may_say_things(log: LineLog, file: Path) -> None:
    def talk() -> None:
        for _ in range(200):
            log.say("talk")

    talkers = [threading.Thread(target=talk) for _ in range(4)]
    for talker in talkers:
        talker.start()
    for talker in talkers:
        talker.join()
    log.close()
    assert len(lines(file)) + log.dropped == 800


def test_a_line_may_be_worked_out_when_it_is_written(log: LineLog, file: Path) -> None:
    log.request(lambda: {"answer": 42})
    log.request({})
    log.close()
    assert [line.get("answer") for line in lines(file)] == [42, None]
    assert all(line["service"] == "things" for line in lines(file))


def test_a_line_that_cannot_be_told_is_lost_alone(log: LineLog, file: Path) -> None:
    log.say("before")
    log.request(lambda: {"share": 1 / 0})
    log.say("after")
    log.close()
    assert [line["event"] for line in lines(file)] == ["before", "after"]
    assert log.dropped == 1
