"""What a well-formed document may get wrong: one case a check, each with its line."""

import pytest

from gateway.rules.build import check
from tests.support.rules import findings_of

AUTH = 'auth: {m: {issuer: i, audience: u, jwks: {url: "https://i/jwks"}}}\n'


def rule(fields: str) -> str:
    return f"{AUTH}rules:\n- {{name: r, {fields}}}\n"


REFUSED = [
    ("forward: nowhere", "cluster 'nowhere' is not known"),
    ("match: {path: /a}", "needs exactly one of forward, redirect and reply, and has none"),
    ("forward: a, reply: {}", "not forward and reply"),
    ("forward: a, match: []", "an empty list of matches fits nothing"),
    ("forward: a, auth: nobody", "auth policy 'nobody' is not known"),
    ("forward: a, rate_limit: none", "limit 'none' is not known"),
    ("forward: a, filters: [none]", "filter 'none' is not known"),
    ("forward: a, mirror: {cluster: none}", "cluster 'none' is not known"),
    ("forward: a, scopes: [x]", "scopes need an auth policy"),
    ("forward: a, match: {claims: {x: y}}", "conditions on claims need an auth policy"),
    ("forward: a, match: {any: [{sticky: {percent: 1, by: 'claim:sub'}}]}", "on claims need"),
    ("forward: a, match: {path: /a, path_prefix: /b}", "give one of path, path_prefix"),
    ("forward: a, match: {path: /a/../b}", "can never match"),
    ("forward: a, match: {path: '/a?b'}", "must not contain '?'"),
    ("forward: a, match: {path_template: /a}", "has no {capture}"),
    ("forward: a, match: {path_template: '/{a}{b}'}", "two captures need a character between"),
    ("forward: a, match: {path_regex: '(a+)+'}", "nested quantifiers"),
    ("forward: a, match: {path_regex: '('}", "is not valid"),
    ("forward: a, match: {hosts: [A.example]}", "must be a lower-case name without port"),
    ("forward: a, match: {hosts: ['a:80']}", "must be a lower-case name without port"),
    ("forward: a, match: {hosts: ['a.*']}", "must be a lower-case name without port"),
    ("forward: a, match: {clients: [10.0.0.1/8]}", "is no address or CIDR"),
    ("forward: a, match: {headers: {'x y': z}}", "is no header name"),
    ("forward: a, match: {headers: {x: {}}}", "must say at least one thing"),
    ("forward: a, match: {query: {x: {exact: y, present: false}}}", "'present: false' leaves"),
    ("forward: a, match: {cookies: {x: {regex: '.*.*'}}}", "can take what the quantifier before"),
    ("forward: a, match: {not: {clients: [x]}}", "is no address or CIDR"),
    ("forward: a, match: {window: {}}", "a window needs"),
    ("forward: a, match: {window: {start: '20:00'}}", "needs both start and end"),
    ("forward: a, match: {window: {start: '9:00', end: '10:00'}}", "is no time of day"),
    ("forward: a, match: {window: {after: 2030-01-01}}", "does not say its offset"),
    ("forward: a, match: {window: {days: [mon], timezone: Mars/Base}}", "is not known here"),
    ("forward: a, match: {sticky: {percent: 5, by: shoe}}", "'by' is client, header:NAME"),
    ("reply: {}, rewrite: {path: /x}", "only what is forwarded can be rewritten"),
    ("forward: a, rewrite: {path: x}", "must be a path"),
    ("reply: {}, match: {methods: [CONNECT]}", "a CONNECT is forwarded as it is"),
    ("forward: a, match: {path: /x, methods: [CONNECT]}", "a CONNECT has no path but '/'"),
    (
        "forward: a, match: {methods: [GET, CONNECT]}, rewrite: {host: b}",
        "a CONNECT is forwarded as it is",
    ),
    ("forward: a, rewrite: {path: /x, template: /y}", "give one of path, prefix and template"),
    ("forward: a, match: {path: /a}, rewrite: {prefix: /x}", "needs a match with path_prefix"),
    (
        "forward: a, match: {path_template: '/{a}'}, rewrite: {template: '/{b}'}",
        "{b} is captured by",
    ),
    ("forward: a, rewrite: {host: 'a b'}", "host 'a b' is not valid"),
    ("redirect: {location: 'javascript:x'}", "must be a path or an http(s) URL"),
    ("redirect: {location: '/{x}'}", "{x} is captured by"),
    ("forward: a, request_headers: {set: {host: x}}", "is the gateway's own"),
    ("forward: a, request_headers: {remove: [Content-Length]}", "is the gateway's own"),
    ("forward: a, request_headers: {add: {x-passport: x}}", "is the gateway's own"),
    ('forward: a, response_headers: {set: {x: "a\\r\\nb: c"}}', "has control characters"),
    ("reply: {status: 204, body: x}", "a 204 has no body"),
    ("forward: a, timeout_s: 1, retry: {attempt_timeout_s: 2}", "is longer than timeout_s"),
    ("reply: {}, retry: {attempts: 2}", "leave retry out"),
    ("redirect: {location: /}, hedge: {}", "leave hedge out"),
    ("forward: a, retry: {attempt_timeout_s: 1}, hedge: {least_s: 1}", "not below the attempt's"),
    ("forward: a, filters: [f]", "filters are not loaded from documents"),
    ("forward: a, mirror: {cluster: a}", "mirror is not served"),
    ("forward: a, cors: {origins: ['*']}", "cors is not served"),
]


@pytest.mark.parametrize(("fields", "reason"), REFUSED)
def test_a_faulty_rule_is_refused_with_its_line(fields, reason):
    found = findings_of(rule(fields))
    assert any(line.startswith("rules.yaml:4: rule 'r'") and reason in line for line in found), (
        found
    )


@pytest.mark.parametrize(
    "fields",
    [
        "retry: {attempts: 3}",
        "retry: {attempts: 1}",
        "retry: {statuses: [500]}",
        "retry: {attempt_timeout_s: 1}",
        "hedge: {}",
        "hedge: {quantile: 0.99, least_s: 0.02}, retry: {attempt_timeout_s: 1}",
    ],
)
def test_what_a_rule_may_say_of_its_attempts(fields):
    assert [line for line in findings_of(rule(f"forward: a, {fields}")) if "'r'" in line] == []


def test_statuses_that_are_never_tried_again_are_warned_of():
    found = findings_of(rule("forward: a, retry: {attempts: 1, statuses: [500]}"))
    assert any("warning" in line and "raise attempts" in line for line in found), found


DOCUMENTS = [
    ("clusters: {a: {}}", "give one of the 'service'"),
    ("clusters: {a: {service: a, instances: ['h:1']}}", "give one of the 'service'"),
    ("clusters: {a: {dns: 'h:1', instances: ['h:1']}}", "give one of the 'service'"),
    ("clusters: {a: {dns: h}}", "dns 'h' is not host:port"),
    ("clusters: {a: {instances: ['a..b:80']}}", "instance 'a..b:80' has an empty label"),
    ("clusters: {a: {dns: 'a..b:80'}}", "has an empty label"),
    ("clusters: {a: {dns: '.:80'}}", "has an empty label"),
    ("clusters: {a: {dns: '.a:80'}}", "has an empty label"),
    (f"clusters: {{a: {{dns: 'a.{'b' * 64}:80'}}}}", "has an empty label, one over 63"),
    (f"clusters: {{a: {{dns: '{'a.' * 126}bb:80'}}}}", "or over 253 in all"),
    ("clusters: {a: {instances: [h]}}", "is not host:port"),
    ("clusters: {a: {instances: ['h:70000']}}", "is not host:port"),
    ("clusters: {a: {instances: ['h:1', 'h:1']}}", "listed twice"),
    ("clusters: {a: {service: a, health: {host: 'a b'}}}", "is no host name"),
    ("clusters: {a: {service: a, idle_s: 9}}", "must be shorter than instance_idle_s"),
    (
        "auth: {m: {issuer: '', audience: u, jwks: {url: 'https://i'}}}",
        "'issuer' must not be empty",
    ),
    ("auth: {m: {issuer: i, audience: u, jwks: {}}}", "exactly one of file, url and cluster"),
    ("auth: {m: {issuer: i, audience: u, jwks: {cluster: x}}}", "jwks cluster 'x' is not known"),
    ("auth: {m: {issuer: i, audience: u, jwks: {url: 'ftp://i'}}}", "must start with https://"),
    ("limits: {l: {per_s: 1, burst: 1, key: shoe}}", "'key' is client, account"),
    ("limits: {l: {per_s: 1, burst: 1, cost: 2}}", "none would ever pass"),
    ("golden: [{request: 'GET', rule: null}]", "must be 'METHOD /path'"),
    ("golden: [{request: 'GET /', rule: none}]", "rule 'none' is not known"),
    ("golden: [{request: 'GET http://[/', rule: null}]", "Invalid IPv6 URL"),
]


@pytest.mark.parametrize(("document", "reason"), DOCUMENTS)
def test_a_faulty_section_is_refused(document, reason):
    found = findings_of(document)
    assert any(reason in line and "warning" not in line for line in found), found


@pytest.mark.parametrize(
    "host", ["localhost", "a.b.", "a." * 127, "b" * 63, "10.0.0.1", "[2001:db8::1]", "_a._b.c"]
)
def test_what_a_resolver_takes_may_be_the_name_of_a_cluster(host):
    found = findings_of(f"clusters: {{a: {{dns: '{host}:80'}}}}")
    assert [line for line in found if "warning" not in line] == []


UNREACHABLE = [
    ("{path: /a}", "{path: /a}"),
    ("{}", "{path_prefix: /}"),
    ("{path_template: '/{x}/b'}", "{path_template: '/{y}/b'}"),
    ("{path_prefix: /a/}", "{path_prefix: /a}"),
    ("{path_prefix: /a}", "{path_regex: '/a/[0-9]+'}"),
    ("{path: /a, methods: [GET]}", "{path: /a, methods: [GET], cookies: {c: d}}"),
    ("{hosts: [h, i], path: /a}", "{hosts: [i], path: /a}"),
]


@pytest.mark.parametrize(("first", "second"), UNREACHABLE)
def test_a_rule_that_can_never_be_reached_is_refused(first, second):
    found = findings_of(
        f"rules:\n- {{name: r, match: {first}, forward: a}}\n"
        f"- {{name: s, match: {second}, forward: b}}\n"
    )
    assert found == ["rules.yaml:4: rule 's' can never be reached: 'r' always goes first"]


def test_a_higher_precedence_shadows_across_paths():
    found = findings_of(
        "rules:\n- {name: s, match: {path: /a/b}, forward: a}\n"
        "- {name: r, precedence: 1, match: {path_prefix: /a}, forward: b}\n"
    )
    assert found == ["rules.yaml:3: rule 's' can never be reached: 'r' always goes first"]


REACHABLE = [
    ("{path: /a, methods: [GET]}", "{path: /a}"),
    ("{path: /a, headers: {x: y}}", "{path: /a, headers: {x: z}}"),
    ("{path_template: '/{x}/b'}", "{path_template: '/{x}/c'}"),
    ("{hosts: [h], path: /a}", "{hosts: [i], path: /a}"),
    ("{path_prefix: /a}", "{path_prefix: /a/b}"),
    ("{path_prefix: /a, cookies: {x: y}}", "{path_regex: '/a/[0-9]+'}"),
    ("{hosts: [h], path: /a}", "[{hosts: [h], path: /a}, {path: /b}]"),
]


@pytest.mark.parametrize(("first", "second"), REACHABLE)
def test_a_rule_that_some_request_reaches_is_accepted(first, second):
    document = f"rules:\n- {{name: r, match: {first}, forward: a}}\n"
    assert not findings_of(document + f"- {{name: s, match: {second}, forward: b}}\n")


def test_two_rules_of_one_name_are_refused():
    found = findings_of(
        "rules:\n- {name: r, forward: a}\n- {name: r, match: {path: /}, forward: b}"
    )
    assert found == ["rules.yaml:4: rule 'r': the name is taken by rules[0]"]


def test_warnings_do_not_refuse():
    found = findings_of("rules: [{name: r, forward: {}}]")
    assert len(found) == 3
    assert all("warning: " in line for line in found)


def test_a_jwks_file_must_be_there(tmp_path):
    text = b"auth: {m: {issuer: i, audience: u, jwks: {file: keys.json}}}\n"
    assert "does not exist" in str(check(text, "r", folder=tmp_path)[1])
    (tmp_path / "keys.json").write_text("{}")
    assert not check(text, "r", folder=tmp_path)[1]
