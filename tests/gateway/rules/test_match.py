"""Which rule wins: the precedence, one line a case, and the hot path's own edges."""

import pytest

from chassis.clock import ManualClock
from gateway.rules.explain import request_of
from tests.support.rules import snapshot_of, winner

PRECEDENCE = [
    ("an exact host beats a wildcard", "{hosts: [x.y.z]}", "{hosts: ['*.y.z']}"),
    ("a longer wildcard beats a shorter", "{hosts: ['*.y.z']}", "{hosts: ['*.z']}"),
    ("a wildcard beats any host", "{hosts: ['*.z']}", "{}"),
    ("host goes before path", "{hosts: [x.y.z]}", "{path: /one/two}"),
    ("an exact path beats a template", "{path: /one/two}", "{path_template: '/one/{b}'}"),
    ("a template beats a prefix", "{path_template: '/{a}/two'}", "{path_prefix: /one/two}"),
    ("a literal beats a capture, from the left", "{path_template: '/one/{b}'}",
     "{path_template: '/{a}/two'}"),
    ("a mix beats a capture", "{path_template: '/one/t{b}'}", "{path_template: '/one/{b}'}"),
    ("the mix with more literals wins", "{path_template: '/one/tw{b}'}",
     "{path_template: '/one/t{b}'}"),
    ("the longest prefix wins", "{path_prefix: /one/two}", "{path_prefix: /one}"),
    ("a prefix beats an expression", "{path_prefix: /one, query: {q: '1'}}",
     "{path_regex: '/one/[a-z]+'}"),
    ("then one with methods", "{path: /one/two, methods: [GET]}", "{path: /one/two}"),
    ("methods go before headers", "{path: /one/two, methods: [GET]}",
     "{path: /one/two, headers: {h1: '1', h2: '2'}}"),
    ("then more headers", "{path: /one/two, headers: {h1: '1', h2: '2'}}",
     "{path: /one/two, headers: {h1: '1'}}"),
    ("headers go before query", "{path: /one/two, headers: {h1: '1'}}",
     "{path: /one/two, query: {q: '1', r: '2'}}"),
    ("then more query conditions", "{path: /one/two, query: {q: '1', r: '2'}}",
     "{path: /one/two, query: {q: '1'}}"),
]  # fmt: skip


IDS = [case[0] for case in PRECEDENCE]


@pytest.mark.parametrize(("better", "worse"), [case[1:] for case in PRECEDENCE], ids=IDS)
@pytest.mark.parametrize("better_first", [True, False])
def test_the_more_specific_rule_wins_wherever_it_stands(better, worse, better_first):
    pair = [("better", better), ("worse", worse)]
    assert among(pair if better_first else pair[::-1]) == "better"


def test_among_equals_the_first_wins():
    equals = [
        ("cookie", "{path: /one/two, cookies: {c: '1'}}"),
        ("device", "{path: /one/two, devices: [other]}"),
    ]
    assert among(equals) == "cookie"
    assert among(equals[::-1]) == "device"


def test_expressions_compete_by_conditions_and_order_wherever_their_literal_start_ends():
    wide = ("wide", "{path_regex: '/.*'}")
    narrow = ("narrow", "{path_regex: '/one/.*'}")
    assert among([wide, narrow]) == "wide"
    assert among([narrow, wide]) == "narrow"
    assert among([wide, ("asked", "{path_regex: '/one/t.*', query: {q: '1'}}")]) == "asked"


def among(rules):
    """Who wins a request that fits every condition used here."""
    snapshot = snapshot_of(
        "rules:\n" + "".join(f"- {{name: {n}, match: {m}, forward: a}}\n" for n, m in rules)
    )
    request = request_of(
        "GET", "http://x.y.z/one/two?q=1&r=2", headers={"h1": "1", "h2": "2", "cookie": "c=1"}
    )
    return winner(snapshot, request)


def test_an_explicit_precedence_goes_before_everything():
    snapshot = snapshot_of(
        """
        rules:
        - {name: exact, match: {hosts: [h], path: /a, methods: [GET]}, forward: a}
        - {name: wide, precedence: 5, match: {path_prefix: /, query: {force: "1"}}, forward: b}
        - {name: last, precedence: -5, forward: b}
        """
    )
    assert winner(snapshot, "GET http://h/a?force=1") == "wide"
    assert winner(snapshot, "GET http://h/a") == "exact"
    assert winner(snapshot, "GET http://h/b") == "last"


def test_a_more_specific_host_without_a_fitting_rule_leaves_the_request_to_the_others():
    snapshot = snapshot_of(
        """
        rules:
        - {name: exact, match: {hosts: [x.y.z], path: /only}, forward: a}
        - {name: wild, match: {hosts: ["*.z"], path_prefix: /w}, forward: a}
        - {name: any, forward: a}
        """
    )
    assert winner(snapshot, "GET http://x.y.z/only") == "exact"
    assert winner(snapshot, "GET http://x.y.z/w/1") == "wild"
    assert winner(snapshot, "GET http://x.y.z/else") == "any"
    assert winner(snapshot, "GET http://z/w/1") == "any"


@pytest.mark.parametrize(
    ("path", "found"),
    [("/a", "p"), ("/a/", "p"), ("/a/b", "p"), ("/ab", None), ("/", None), ("/A", None)],
)
def test_a_prefix_fits_whole_segments_only(path, found):
    snapshot = snapshot_of("rules: [{name: p, match: {path_prefix: /a}, forward: a}]")
    assert winner(snapshot, f"GET {path}") == found


def test_head_is_not_get():
    snapshot = snapshot_of("rules: [{name: g, match: {path: /a, methods: [GET]}, forward: a}]")
    assert winner(snapshot, "GET /a") == "g"
    assert winner(snapshot, "HEAD /a") is None


@pytest.mark.parametrize(
    "path", ["/%61dmin/x", "/x/../admin", "/./admin", "//admin", "/x/%2e%2e/admin", "/admin//y"]
)
def test_another_spelling_of_a_path_does_not_get_around_its_rule(path):
    snapshot = snapshot_of(
        """
        rules:
        - {name: admin, match: {path_prefix: /admin}, reply: {status: 403}}
        - {name: rest, forward: a}
        """
    )
    assert winner(snapshot, f"GET http://h{path}") == "admin"


@pytest.mark.parametrize("path", ["/x//../admin", "*", "", "x"])
def test_a_path_that_servers_read_differently_matches_nothing(path):
    snapshot = snapshot_of("rules: [{name: all, forward: a}]")
    request = request_of("GET", "/")
    request.path = path.encode()
    assert winner(snapshot, request) is None


def test_a_list_of_matches_fits_any_of_them():
    snapshot = snapshot_of(
        "rules: [{name: two, match: [{path: /a}, {path_prefix: /b, methods: [PUT]}], forward: a}]"
    )
    asked = ["GET /a", "PUT /b/c", "GET /b/c"]
    assert [winner(snapshot, request) for request in asked] == ["two", "two", None]


def test_conditions_on_claims_wait_for_the_credential():
    snapshot = snapshot_of(
        """
        clusters: {a: {service: a}}
        auth: {m: {issuer: i, audience: u, jwks: {url: "https://i/jwks"}}}
        rules:
        - {name: vip, match: {path: /x, claims: {plan: premium}}, forward: a, auth: m}
        - {name: all, match: {path_prefix: /x}, forward: a}
        """
    )
    unknown = snapshot.match(request_of("GET", "/x"))
    assert unknown is not None
    assert (unknown.route.name, unknown.needs_claims) == ("vip", True)
    verified = snapshot.match(request_of("GET", "/x", claims={"plan": "premium"}))
    assert verified is not None
    assert (verified.route.name, verified.needs_claims) == ("vip", False)
    assert winner(snapshot, request_of("GET", "/x", claims={})) == "all"


def test_a_denied_claim_is_not_decided_before_the_credential_is():
    snapshot = snapshot_of(
        """
        clusters: {a: {service: a}}
        auth: {m: {issuer: i, audience: u, jwks: {url: "https://i/jwks"}}}
        rules:
        - {name: adult, match: {not: {claims: {kid: "true"}}}, forward: a, auth: m}
        """
    )
    unknown = snapshot.match(request_of("GET", "/"))
    assert unknown is not None
    assert unknown.needs_claims
    assert winner(snapshot, request_of("GET", "/", claims={"kid": True})) is None
    assert winner(snapshot, request_of("GET", "/", claims={"kid": False})) == "adult"


def test_weights_share_requests_and_a_weight_of_zero_gets_none():
    snapshot = snapshot_of("rules: [{name: w, forward: {a: 3, b: 1}}, "
                           "{name: z, match: {path: /z}, forward: {a: 0, b: 2}}]")  # fmt: skip
    route = snapshot.routes["w"]
    chosen = [route.choose(step / 100) for step in range(100)]
    assert (chosen.count("a"), chosen.count("b")) == (75, 25)
    assert {snapshot.routes["z"].choose(step / 10) for step in range(10)} == {"b"}


def test_a_rule_that_forwards_to_no_cluster_chooses_none():
    snapshot = snapshot_of("rules: [{name: none, forward: {}}]")
    assert snapshot.routes["none"].choose(0.5) is None


def test_a_window_opens_and_closes_with_the_clock():
    clock = ManualClock(now=1_700_000_000)  # Tuesday, 22:13:20 UTC
    snapshot = snapshot_of(
        """
        rules:
        - {name: night, match: {window: {start: "22:00", end: "06:00", days: [tue]}}, forward: a}
        """,
        clock,
    )
    assert winner(snapshot, "GET /") == "night"
    clock.tick(7 * 3600)
    assert winner(snapshot, "GET /") == "night", "05:13 on Wednesday belongs to Tuesday's window"
    clock.tick(3600)
    assert winner(snapshot, "GET /") is None
    clock.tick(16 * 3600)
    assert winner(snapshot, "GET /") is None, "Wednesday night"
