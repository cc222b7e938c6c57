"""`explain`: who wins, and in words why every near miss did not."""

import pytest

from chassis.clock import ManualClock
from gateway.rules.build import RulesFault, judge
from gateway.rules.explain import explain, request_of
from tests.support.rules import snapshot_of

RULES = """
rules:
- {name: play, match: {path: /v1/play, methods: [POST]}, forward: a}
- {name: tv, match: {path: /v1/play, headers: {x-device: tv}}, forward: b}
- {name: all, match: {path_prefix: /v1}, forward: {a: 9, b: 1}}
- {name: else, match: {hosts: [other.example], path: /v1/play}, forward: a}
"""


def reasons(method: str, url: str, **more):
    explained = explain(snapshot_of(RULES), request_of(method, url, **more))
    return explained, {miss.rule: miss.reasons for miss in explained.misses}


def test_the_winner_is_named_with_what_it_fits():
    explained, _ = reasons("POST", "http://h.example/v1/play")
    assert explained.winner == "play"
    assert explained.because == "host *, path /v1/play, method POST"
    assert (explained.action, explained.clusters) == ("forward", ["a"])


def test_each_near_miss_says_why():
    _, misses = reasons("POST", "http://h.example/v1/play")
    assert misses["tv"] == ["not header x-device = 'tv'"]
    assert misses["else"] == ["host is not other.example"]
    assert misses["all"] == ["fits, but 'play' goes first by path"]


def test_a_rule_that_fits_and_loses_says_by_which_step():
    _, misses = reasons("POST", "http://h.example/v1/play", headers={"x-device": "tv"})
    assert misses["tv"] == ["fits, but 'play' goes first by method"]


def test_a_request_that_nothing_fits_gets_the_nearest_misses():
    explained, misses = reasons("GET", "http://h.example/v2/play")
    assert (explained.winner, explained.action) == (None, "404")
    assert misses["all"] == ["not prefix /v1"]


def test_a_path_that_can_be_read_in_two_ways_is_explained():
    explained, _ = reasons("GET", "http://h.example/x//../v1")
    assert explained.winner is None
    assert "more than one way" in explained.because


def test_a_document_is_judged_as_the_gateway_would_golden_requests_included():
    sound = "clusters: {a: {service: a}, b: {service: b}}" + RULES
    wrong = sound + "golden:\n- {request: GET /v1/play, rule: play}\n"
    (said,) = judge(wrong.encode(), "rules.yaml", ManualClock())
    assert "must find rule 'play'" in str(said)
    assert judge(sound.encode(), "rules.yaml", ManualClock()) == []


def test_a_golden_request_that_finds_another_rule_refuses_the_document():
    with pytest.raises(RulesFault) as refused:
        snapshot_of(RULES + "golden:\n- {request: GET /v1/play, rule: play}\n"
                            "- {request: GET /v1/x, rule: all}\n"
                            "- {request: GET /v2, rule: all}\n")  # fmt: skip
    assert [str(fault) for fault in refused.value.findings] == [
        "rules.yaml:9: golden request 'GET /v1/play' must find rule 'play', but finds 'all'",
        "rules.yaml:11: golden request 'GET /v2' must find rule 'all', but finds 'none'",
    ]


def test_what_further_attempts_there_may_be_is_said_also_where_the_rule_says_nothing():
    assert reasons("POST", "/v1/play")[0].attempts == "up to 2 attempts, again on 502, 503, 504"
    rules = "rules: [{name: all, forward: a, retry: {attempts: 1}, hedge: {}}]"
    said = explain(snapshot_of(rules), request_of("GET", "/")).attempts
    assert said == "one attempt; a second one at once when the first is slower than 95.0%"
    replies = "rules: [{name: all, reply: {}}]"
    assert explain(snapshot_of(replies), request_of("GET", "/")).attempts == ""


CONNECTS = """
rules:
- {name: all, match: {path_prefix: /}, forward: a}
- {name: db, match: {hosts: [db.example], methods: [CONNECT]}, forward: a}
golden:
- {request: "CONNECT db.example:5432", rule: db}
"""


def test_a_connect_is_explained_by_where_it_leads():
    snapshot = snapshot_of(CONNECTS)
    assert explain(snapshot, request_of("CONNECT", "db.example:5432")).winner == "db"
    other = explain(snapshot, request_of("CONNECT", "other.example:5432"))
    assert (other.winner, other.action) == (None, "405")
    misses = {miss.rule: miss.reasons for miss in other.misses}
    assert misses["all"] == ["CONNECT is only for rules that list it"]


@pytest.mark.parametrize("place", ["/a", "http://db.example:80/", "db.example", "db.example:0"])
def test_what_no_client_could_connect_to_is_said(place: str):
    with pytest.raises(ValueError, match="CONNECT asks for host:port"):
        request_of("CONNECT", place)
