"""Expressions: what is refused could take long, and what is accepted does not."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.rules import expression

ACCEPTED = [
    "/v1/titles/[0-9]+",
    "^/v1/[a-z]{2,8}/[^/]+$",
    "/(?:movies|series)/[0-9]{1,9}(?:/[a-z]+)?",
    "/(?P<kind>a|b)/(?P<id>[0-9]+)",
    r"/x\.[a-z]+",
    ".*",
    ".*/end",
    "[^/]+/[^/]+/[^/]+",
    "(?:ab){3}",
    "",
]
REFUSED = [
    ("(a+)+", "nested quantifiers"),
    ("(?:a*b?)*", "nested quantifiers"),
    ("(?:ab)*", "a repeated group"),
    ("(a|a)*", "a repeated group"),
    ("(?:a|a){30}", "a repeated group"),
    ("(?:a?){30}", "nested quantifiers"),
    (".*.*", "can take what the quantifier before"),
    (".*foo.*", "can take what the quantifier before"),
    ("a*a*", "can take what the quantifier before"),
    ("a*b{0}a*", "can take what the quantifier before"),
    ("a*(?:b|a)a*", "can take what the quantifier before"),
    ("a*b?a*", "can take what the quantifier before"),
    ("a?b?c?d?e?f?g?h?i?", "combinations"),
    ("(?:a|a)" * 9, "combinations"),
    (r"(a)\1", "not allowed"),
    ("(?=a)", "not allowed"),
    ("(?i)a", "not allowed"),
    ("a^b", "not allowed"),
    ("(", "is not valid"),
    ("a{2,1}", "is not valid"),
    ("é", "ASCII"),
    ("a" * 600, "at most"),
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_expressions_of_linear_cost_are_accepted(text):
    assert expression.compile_bounded(text)


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_expressions_that_may_take_long_are_refused(text, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        expression.compile_bounded(text)


def test_an_expression_is_anchored_at_both_ends():
    pattern = expression.compile_bounded("/a")
    assert expression.fits(pattern, b"/a")
    assert not expression.fits(pattern, b"/ab")
    assert not expression.fits(pattern, b"x/a")
    assert not expression.fits(pattern, b"/a\n")


def test_an_input_beyond_the_bound_fits_nothing():
    pattern = expression.compile_bounded(".*")
    assert expression.fits(pattern, b"x" * expression.MAX_INPUT)
    assert not expression.fits(pattern, b"x" * (expression.MAX_INPUT + 1))


ATOMS = st.sampled_from(["a", "b", "[ab]", ".", "[^b]", r"\w", "/"])
QUANTIFIERS = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,9}", "*?"])
PIECES = st.tuples(ATOMS, QUANTIFIERS).map("".join)
PATTERNS = st.recursive(
    st.lists(PIECES, min_size=1, max_size=5).map("".join),
    lambda inner: (
        st.tuples(inner, inner, QUANTIFIERS).map(lambda t: f"(?:{t[0]}|{t[1]}){t[2]}")
        | st.tuples(inner, QUANTIFIERS, inner).map(lambda t: f"({t[0]}){t[1]}{t[2]}")
    ),
    max_leaves=4,
)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(PATTERNS)
def test_whatever_is_accepted_fails_fast_on_hostile_input(text):
    try:
        pattern = expression.compile_bounded(text)
    except ValueError:
        return
    began = time.process_time()
    for hostile in (b"a" * 4_000 + b"!", b"ab" * 2_000 + b"!", b"/" * 4_000 + b"!"):
        expression.fits(pattern, hostile)
    assert time.process_time() - began < 0.5, text


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("/v1/titles/[0-9]+", b"/v1/titles/"),
        ("^/a/b", b"/a/b"),
        (r"/a\.b/c*", b"/a.b/"),
        ("/ab?", b"/a"),
        ("/a|/b", b"/"),
        (".*", b"/"),
        ("/ab+c", b"/ab"),
    ],
)
def test_the_literal_start_is_what_every_match_starts_with(text, start):
    assert expression.literal_start(text) == start
