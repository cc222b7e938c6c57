"""Whatever the rules: the compiled match is what reading them one by one would say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.clock import ManualClock
from gateway.rules.compile import compile_document
from gateway.rules.explain import Request, explain
from gateway.rules.model import Cluster, Document, Matcher, Rule

WORDS = st.sampled_from(["a", "b", "c", "ab"])
PATHS = st.lists(WORDS, max_size=3).map(lambda words: "/" + "/".join(words))
HOSTS = st.sampled_from(["h.x", "g.h.x", "*.x", "*.h.x", "other"])
TEMPLATES = (
    st.lists(st.sampled_from(["a", "b", "{v}", "a{v}", "{v}b"]), min_size=1, max_size=3)
    .filter(lambda parts: any("{" in part for part in parts))
    .map(lambda parts: "/" + "/".join(p.replace("v", f"v{i}") for i, p in enumerate(parts)))
)
REGEXES = st.sampled_from(["/a/[a-z]+", "/[ab]+", "/a/b.*", "/.*", "/(?:a|b)/c", "/a/.*"])
VALUES = st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["1", "2"]), max_size=2)


@st.composite
def matchers(draw):
    kind = draw(st.sampled_from(["path", "path_prefix", "path_template", "path_regex", None]))
    texts = {"path_template": TEMPLATES, "path_regex": REGEXES}
    path = {kind: draw(texts.get(kind, PATHS))} if kind else {}
    return Matcher(
        **path,
        hosts=tuple(draw(st.lists(HOSTS, max_size=2))),
        methods=tuple(draw(st.lists(st.sampled_from(["GET", "PUT"]), max_size=2, unique=True))),
        headers=draw(VALUES),
        query=draw(VALUES),
    )


@st.composite
def documents(draw):
    found = draw(st.lists(st.lists(matchers(), min_size=1, max_size=2), max_size=12))
    precedences = st.sampled_from([0, 0, 0, 1, -1])
    rules = [
        Rule(name=f"r{i}", match=tuple(match), forward="a", precedence=draw(precedences))
        for i, match in enumerate(found)
    ]
    return Document(clusters={"a": Cluster(service="a")}, rules=tuple(rules))


@st.composite
def requests(draw):
    query = draw(VALUES)
    return Request(
        method=draw(st.sampled_from([b"GET", b"PUT", b"HEAD"])),
        host=draw(st.sampled_from([b"h.x", b"g.h.x", b"f.g.h.x", b"x", b"other", b"none"])),
        path=(draw(PATHS) + draw(st.sampled_from(["", "", "/"]))).replace("//", "/").encode(),
        query="&".join(f"{name}={value}" for name, value in query.items()).encode(),
        headers=[(name.encode(), value.encode()) for name, value in draw(VALUES).items()],
    )


def naive(document: Document, request: Request) -> str | None:
    """The rule by first principles: all that fit, then the smallest rank."""
    ranks = [
        (rank, rule.name)
        for order, rule in enumerate(document.rules)
        for matcher in rule.matchers
        for host in matcher.hosts or ("*",)
        if (rank := naive_rank(rule, matcher, host, order, request)) is not None
    ]
    return min(ranks)[1] if ranks else None


def naive_rank(rule, matcher, host, order, request):
    host_rank = naive_host(host, request.host.decode())
    path_rank = naive_path(matcher, request.path.decode())
    pairs = [pair.split("=") for pair in request.query.decode().split("&") if pair]
    headers = [[name.decode(), value.decode()] for name, value in request.headers]
    fits = (
        host_rank is not None
        and path_rank is not None
        and (not matcher.methods or request.method.decode() in matcher.methods)
        and all([name, value] in headers for name, value in matcher.headers.items())
        and all([name, value] in pairs for name, value in matcher.query.items())
    )
    if not fits:
        return None
    counts = (not matcher.methods, -len(matcher.headers), -len(matcher.query), order)
    return (-rule.precedence, host_rank, path_rank, counts)


def naive_host(pattern: str, host: str):
    if pattern == "*":
        return (1, 0)
    if pattern.startswith("*."):
        return (1, -len(pattern) + 1) if host.endswith(pattern[1:]) else None
    return (0, 0) if host == pattern else None


def naive_path(matcher: Matcher, path: str):
    if matcher.path is not None:
        return (0,) if path == matcher.path else None
    if matcher.path_template is not None:
        return naive_template(matcher.path_template, path)
    if matcher.path_regex is not None:
        return (3,) if re.fullmatch(matcher.path_regex, path) else None
    prefix = (matcher.path_prefix or "/").rstrip("/")
    return (2, -len(prefix)) if path == prefix or path.startswith(prefix + "/") else None


def naive_template(template: str, path: str):
    wanted, given = template.split("/")[1:], path.split("/")[1:]
    if len(wanted) != len(given):
        return None
    ranks = []
    for want, got in zip(wanted, given, strict=True):
        literal = re.split(r"\{\w+\}", want)
        if not re.fullmatch("[^/]+".join(map(re.escape, literal)), got):
            return None
        size = sum(map(len, literal))
        ranks.append((1, -size, "{}".join(literal)) if "{" in want else (0, 0, ""))
    return (1, tuple(ranks))


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(document=documents(), asked=st.lists(requests(), min_size=1, max_size=8))
def test_the_compiled_match_equals_the_naive_one(document, asked):
    snapshot = compile_document(document, ManualClock(), version=1, content_hash="", source=b"")
    for request in asked:
        found = snapshot.match(request)
        wanted = naive(document, request)
        assert (found.route.name if found else None) == wanted
        explained = explain(snapshot, request)
        assert explained.winner == wanted
        assert all(miss.rule != wanted and miss.reasons for miss in explained.misses)
