"""Residual conditions, each against requests that meet it and requests that do not."""

import pytest

from gateway.rules.devices import device_class
from gateway.rules.explain import request_of
from gateway.rules.predicates import share_of
from tests.support.rules import snapshot_of, winner

CASES = [
    ("headers: {x-a: v}", {"headers": {"X-A": "v"}}, {"headers": {"x-a": "w"}}),
    ("headers: {x-a: {present: true}}", {"headers": {"x-a": ""}}, {}),
    ("headers: {x-a: {present: false}}", {}, {"headers": {"x-a": ""}}),
    ("headers: {x-a: {prefix: ab}}", {"headers": {"x-a": "abc"}}, {"headers": {"x-a": "bab"}}),
    ("headers: {x-a: {suffix: bc}}", {"headers": {"x-a": "abc"}}, {"headers": {"x-a": "bcd"}}),
    ("headers: {x-a: {contains: b}}", {"headers": {"x-a": "abc"}}, {"headers": {"x-a": "ac"}}),
    ("headers: {x-a: {regex: '[0-9]+'}}", {"headers": {"x-a": "12"}}, {"headers": {"x-a": "1a"}}),
    ("headers: {x-a: {one_of: [b, c]}}", {"headers": {"x-a": "c"}}, {"headers": {"x-a": "bc"}}),
    (
        "headers: {x-a: {prefix: a, suffix: c}}",
        {"headers": {"x-a": "abc"}},
        {"headers": {"x-a": "ab"}},
    ),
    ("cookies: {c: v}", {"headers": {"cookie": "b=1; c=v"}}, {"headers": {"cookie": "cc=v"}}),
    ("clients: [10.0.0.0/8, '::1']", {"client": "10.1.2.3"}, {"client": "11.0.0.1"}),
    ("clients: [10.0.0.0/8]", {"client": "::ffff:10.1.2.3"}, {"client": "unix"}),
    ("devices: [tv]", {"headers": {"x-device-type": "TV"}}, {"headers": {"user-agent": "curl"}}),
    (
        "any: [{headers: {x: '1'}}, {headers: {x: '2'}}]",
        {"headers": {"x": "2"}},
        {"headers": {"x": "3"}},
    ),
    (
        "all: [{headers: {x: '1'}}, {cookies: {c: '1'}}]",
        {"headers": {"x": "1", "cookie": "c=1"}},
        {"headers": {"x": "1"}},
    ),
    ("not: {headers: {x: '1'}}", {}, {"headers": {"x": "1"}}),
    ("any: [{path: /}, {hosts: ['*.b']}]", {}, None),
    ("not: {path_prefix: /x, methods: [PUT]}", {}, None),
    ("sticky: {percent: 100}", {}, None),
    ("sticky: {percent: 100, by: 'header:x'}", {"headers": {"x": "1"}}, {}),
    ("window: {after: '2023-01-01T00:00:00Z', before: '2024-01-01T00:00:00+01:00'}", {}, None),
]


@pytest.mark.parametrize(("match", "met", "unmet"), CASES, ids=[case[0] for case in CASES])
def test_a_condition_holds_or_not(match, met, unmet):
    snapshot = snapshot_of(f"rules: [{{name: r, match: {{{match}}}, forward: a}}]")
    assert winner(snapshot, request_of("GET", "/", **met)) == "r"
    if unmet is not None:
        assert winner(snapshot, request_of("GET", "/", **unmet)) is None


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=a b", None),
        ("q=a+b", "r"),
        ("q=a%20b", "r"),
        ("%71=a+b", "r"),
        ("x&q=1&q=a+b", "r"),
        ("q", None),
    ],
)
def test_query_parameters_are_compared_decoded(query, found):
    snapshot = snapshot_of("rules: [{name: r, match: {query: {q: a b}}, forward: a}]")
    request = request_of("GET", "/")
    request.query = query.encode().replace(b" ", b"\xff")
    assert winner(snapshot, request) == found


CLAIMS = [
    ("plan: premium", {"plan": "premium"}, True),
    ("plan: premium", {"plan": "basic"}, False),
    ("groups: staff", {"groups": ["users", "staff"]}, True),
    ("scope: rules:read", {"scope": "rules:read ops:write"}, True),
    ("scope: rules", {"scope": "rules:read"}, False),
    ("kid: 'true'", {"kid": True}, True),
    ("level: '3'", {"level": 3}, True),
    ("plan: {present: false}", {}, True),
]


@pytest.mark.parametrize(("condition", "claims", "fits"), CLAIMS)
def test_conditions_on_verified_claims(condition, claims, fits):
    snapshot = snapshot_of(
        f"""
        clusters: {{a: {{service: a}}}}
        auth: {{m: {{issuer: i, audience: u, jwks: {{url: "https://i/jwks"}}}}}}
        rules: [{{name: r, match: {{claims: {{{condition}}}}}, forward: a, auth: m}}]
        """
    )
    request = request_of("GET", "/", claims=claims)
    assert winner(snapshot, request) == ("r" if fits else None)


def test_a_sticky_percentage_is_that_share_and_always_the_same_callers():
    snapshot = snapshot_of(
        "rules: [{name: r, match: {sticky: {percent: 20, by: 'cookie:id'}}, forward: a}]"
    )

    def chosen() -> list[int]:
        asked = (request_of("GET", "/", headers={"cookie": f"id={n}"}) for n in range(2_000))
        return [n for n, request in enumerate(asked) if winner(snapshot, request)]

    first = chosen()
    assert 340 < len(first) < 460
    assert chosen() == first


def test_another_salt_chooses_other_callers():
    ours = [share_of(b"one", b"%d" % n) < 0.5 for n in range(200)]
    theirs = [share_of(b"two", b"%d" % n) < 0.5 for n in range(200)]
    assert 60 < sum(a == b for a, b in zip(ours, theirs, strict=True)) < 140


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        ("Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0)", "tv"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0) Mobile", "phone"),
        ("Mozilla/5.0 (Linux; Android 14; Pixel 8) Mobile Safari", "phone"),
        ("Mozilla/5.0 (Linux; Android 14; SM-X910) Safari", "tablet"),
        ("Mozilla/5.0 (iPad; CPU OS 17_0)", "tablet"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64)", "desktop"),
        ("Mozilla/5.0 (PlayStation 5)", "console"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1)", "bot"),
        ("curl/8.0", "other"),
    ],
)
def test_a_device_class_is_guessed_from_the_user_agent(agent, device):
    assert device_class([(b"user-agent", agent.encode())]) == device


def test_header_edits_remove_then_set_then_add():
    route = snapshot_of(
        """
        rules:
        - name: r
          forward: a
          request_headers: {remove: [X-Gone], set: {X-One: "1"}, add: {X-More: "2"}}
        """
    ).routes["r"]
    headers = [(b"x-gone", b"0"), (b"x-one", b"0"), (b"x-more", b"0"), (b"x-one", b"0")]
    assert route.request_headers.apply(headers) == [
        (b"x-more", b"0"),
        (b"x-one", b"1"),
        (b"x-more", b"2"),
    ]
    assert not route.response_headers
