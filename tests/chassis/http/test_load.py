"""What an instance says of its load, in the forms of ORCA, and whatever else may stand there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.http.connection import Connection
from chassis.http.heads import Heads
from chassis.http.load import LONGEST, utilisation
from tests.support.upstream import FakeTransport, Recorder, WholeRecorder

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
LOAD = b"Endpoint-Load-Metrics: TEXT cpu_utilization=0.4\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (b"TEXT cpu_utilization=0.3", 0.3),
        (b"TEXT cpu_utilization=0.3, application_utilization=0.8", 0.8),
        (b"TEXT application_utilization=0.8,cpu_utilization=0.3,mem_utilization=1", 0.8),
        (b"TEXT cpu_utilization:0.3,rps_fractional:10.0", 0.3),
        (b"TEXT  eps=1 , cpu_utilization = .5 ", 0.5),
        (b"TEXT cpu_utilization=3e-1", 0.3),
        (b"TEXT cpu_utilization=0", 0.0),
        (b'JSON {"cpu_utilization": 0.3}', 0.3),
        (b'JSON {"cpu_utilization": 0.3, "application_utilization": 0.8}', 0.8),
        (b'JSON {"cpuUtilization": "0.3", "named_metrics": {"kv": [1]}}', 0.3),
        (b'JSON {"application_utilization": null, "cpu_utilization": 1}', 1.0),
    ],
)
def test_the_applications_own_measure_counts_else_the_processors(
    report: bytes, said: float
) -> None:
    assert utilisation(report) == pytest.approx(said)


@pytest.mark.parametrize("own", ["0", "0.0", "-1", "nan", "inf", "x", "", "900"])
def test_where_the_applications_own_measure_says_nothing_the_processors_counts(own: str) -> None:
    report = f"TEXT application_utilization={own}, cpu_utilization=0.3"
    assert utilisation(report.encode()) == 0.3


@pytest.mark.parametrize("said", [b"1", b"1.0001", b"3", b"10"])
def test_more_than_full_is_full(said: bytes) -> None:
    assert utilisation(b"TEXT cpu_utilization=" + said) == 1.0
    assert utilisation(b'JSON {"cpu_utilization": %b}' % said) == 1.0


@pytest.mark.parametrize(
    "said",
    [
        *(b"-0.1", b"NaN", b"inf", b"Infinity", b"1e999", b"9" * 500, b"95", b"1_0", b"0.3%"),
        *(b"true", b"[0.3]", b"{}", b"null", b'""', b"0.3 0.4", b"\xb2", b"0x1", b""),
    ],
)
def test_what_cannot_be_meant_is_not_said(said: bytes) -> None:
    assert utilisation(b"TEXT cpu_utilization=" + said) is None
    assert utilisation(b'JSON {"cpu_utilization": %b}' % said) is None
    assert utilisation(b'JSON {"cpu_utilization": "%b"}' % said) is None


@pytest.mark.parametrize(
    "report",
    [
        b"",
        b"TEXT",
        b"TEXT ",
        b"TEXT named_metrics.cpu_utilization=0.3",
        b"TEXT xcpu_utilization=0.3",
        b"text cpu_utilization=0.3",
        b"cpu_utilization=0.3",
        b"BIN CQAAAAAAAOA/",
        b"JSON",
        b"JSON []",
        b"JSON 0.3",
        b'JSON {"cpu_utilization": 0.3',
        b"JSON " + b"[" * 3000,
        b"TEXT cpu_utilization=0.3," + b"x" * LONGEST,
    ],
)
def test_other_forms_and_broken_ones_say_nothing(report: bytes) -> None:
    assert utilisation(report) is None


@given(
    st.sampled_from(
        [b"", b"TEXT ", b"JSON ", b"TEXT cpu_utilization=", b'JSON {"cpu_utilization":']
    ).flatmap(lambda start: st.binary(max_size=40).map(start.__add__))
)
def test_whatever_stands_there_is_a_part_or_nothing(report: bytes) -> None:
    said = utilisation(report)
    assert said is None or 0.0 <= said <= 1.0


def asked(connection: Connection, answer: bytes, method: bytes = b"GET") -> Recorder:
    recorder = WholeRecorder()
    connection.start(recorder, GET, method=method, whole=recorder)
    connection.data_received(answer)
    return recorder


def connected() -> Connection:
    connection = Connection(Heads())
    connection.connection_made(FakeTransport())
    return connection


def test_a_head_says_the_same_when_it_is_recognised() -> None:
    connection = connected()
    for _ in range(2):
        asked(connection, OK + LOAD + b"\r\nok")
        assert connection.utilisation == 0.4
        asked(connection, OK + b"\r\nok")
        assert connection.utilisation is None
    assert sorted(head.utilisation or 0.0 for head in connection._heads.values()) == [0.0, 0.4]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + LOAD + b"\r\n1\r\na\r\n",
        b"HTTP/1.1 200 OK\r\n" + LOAD + b"\r\nuntil the end",
        b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n" + LOAD + b"\r\n",
        b"HTTP/1.1 200 OK\r\n"
        + LOAD.replace(b"0.4", b"none")
        + LOAD
        + b"Content-Length: 9\r\n\r\n",
    ],
)
def test_the_head_of_any_answer_tells_before_its_end(answer: bytes) -> None:
    connection = connected()
    asked(connection, answer)
    assert connection.utilisation == 0.4


def test_an_answer_to_head_tells_too() -> None:
    connection = connected()
    asked(connection, OK + LOAD + b"\r\n", b"HEAD")
    assert connection.utilisation == 0.4


def test_interim_answers_and_trailers_tell_nothing() -> None:
    connection = connected()
    asked(connection, b"HTTP/1.1 103 Hints\r\n" + LOAD + b"\r\n" + OK + b"\r\nok")
    assert connection.utilisation is None
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + LOAD + b"\r\n"
    assert asked(connection, chunked).trailers
    assert connection.utilisation is None
