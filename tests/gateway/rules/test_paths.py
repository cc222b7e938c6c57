"""Paths: normalising, templates and rewriting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rules import paths
from gateway.rules.explain import request_of
from tests.support.rules import snapshot_of

NORMALISED = [
    (b"/a/b", b"/a/b"),
    (b"/", b"/"),
    (b"/%61%2Db", b"/a-b"),
    (b"/%2f", b"/%2F"),
    (b"/%zz", b"/%zz"),
    (b"/a/./b", b"/a/b"),
    (b"/a/../b", b"/b"),
    (b"/../../b", b"/b"),
    (b"/a/..", b"/"),
    (b"/a/b/..", b"/a/"),
    (b"/a/%2e%2e/b", b"/b"),
    (b"//a//b/", b"/a/b/"),
    (b"/.a/..b", b"/.a/..b"),
    (b"//a/../b", None),
    (b"*", None),
    (b"", None),
]


@pytest.mark.parametrize(("raw", "normal"), NORMALISED)
def test_a_path_is_normalised_for_matching(raw, normal):
    assert paths.normalise(raw) == normal


@given(st.text(alphabet="/.a%2eE5f", max_size=20).map(lambda text: b"/" + text.encode()))
def test_normalising_twice_changes_nothing_more_and_leaves_no_dots(raw):
    once = paths.normalise(raw)
    if once is None:
        return
    assert once.startswith(b"/")
    assert b"//" not in once
    assert not {b".", b".."} & set(once.split(b"/"))
    if b"%25" not in once:
        assert paths.normalise(once) == once or b"%" in once


def rewritten(match: str, rewrite: str, path: bytes) -> bytes:
    snapshot = snapshot_of(f"rules: [{{name: r, match: {match}, rewrite: {rewrite}, forward: a}}]")
    request = request_of("GET", "/")
    request.path = path
    found = snapshot.match(request)
    assert found is not None
    return found.route.rewrite(path)


REWRITES = [
    ("{path_prefix: /a}", "{prefix: /b}", b"/a/x", b"/b/x"),
    ("{path_prefix: /a}", "{prefix: /b}", b"/a", b"/b"),
    ("{path_prefix: /a}", "{prefix: /b/}", b"/a/x", b"/b/x"),
    ("{path_prefix: /a}", "{prefix: /}", b"/a/x", b"/x"),
    ("{path_prefix: /a}", "{prefix: /}", b"/a", b"/"),
    ("{path_prefix: /}", "{prefix: /b}", b"/x", b"/b/x"),
    ("{path_prefix: /a}", "{prefix: /b}", b"/a/%2Fx//y", b"/b/%2Fx//y"),
    ("{path_prefix: /a}", "{prefix: /b}", b"/%61/x", b"/b/x"),
    ("{path_prefix: /a}", "{path: /fixed}", b"/a/x", b"/fixed"),
    ("{path_template: '/t/{id}.{ext}'}", "{template: '/{ext}/{id}'}", b"/t/9.mpd", b"/mpd/9"),
    ("{path_regex: '/t/(?P<id>[0-9]+)(?P<x>/y)?'}", "{template: '/i/{id}{x}'}", b"/t/9", b"/i/9"),
    ("{path_prefix: /a}", "{host: b.example}", b"/a//b%2ec", b"/a//b%2ec"),
    ("{path_prefix: /a}", "{prefix: /b}", b"/a/c/../../a/x", b"/b/x"),
    ("{path_prefix: /a}", "{prefix: /b}", b"/a/c/%2e%2E/x", b"/b/x"),
]


@pytest.mark.parametrize(("match", "rewrite", "path", "sent"), REWRITES)
def test_a_path_is_rewritten(match, rewrite, path, sent):
    assert rewritten(match, rewrite, path) == sent


REDIRECTS = [
    ("https://b.example{path}{query}", "/x/y?q=1", b"https://b.example/x/y?q=1"),
    ("{path}", "/evil", b"/evil"),
    ("https://{host}/n", "http://h.example/x", b"https://h.example/n"),
]


@pytest.mark.parametrize(("location", "url", "written"), REDIRECTS)
def test_a_redirect_says_where(location, url, written):
    assert located(location, request_of("GET", url)) == written


@pytest.mark.parametrize("path", [b"//evil.example/x", b"/\\evil.example"])
def test_a_redirect_on_this_host_cannot_be_led_elsewhere(path):
    request = request_of("GET", "/")
    request.path = path
    assert located("{path}", request) == b"/evil.example" + path[14:]


def located(location: str, request) -> bytes:
    snapshot = snapshot_of(f"rules: [{{name: r, redirect: {{location: '{location}'}}}}]")
    action = snapshot.routes["r"].redirect
    assert action is not None
    return action.location(request)
