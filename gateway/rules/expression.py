r"""Regular expressions with a cost bound: a dialect in which matching is linear.

Python's engine backtracks, so an expression is refused unless a failed match can only be found
out one way: a quantifier stands on a single character or class (never on a group with another
inside), there is no backreference and no lookaround, between two quantified spots there is a
character that the first cannot take, and optional spots and alternatives stay few.
`[^/]+/[0-9]{1,9}` is fine; `(a+)+`, `.*.*` and `a*a*` are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

MAX_LENGTH = 512
MAX_INPUT = 16_384
"""Longer values fit no expression."""
MAX_WAYS = 256

_TOKEN = re.compile(
    r"""(?P<group>\((?:\?:|\?P<\w+>|(?!\?)))|(?P<close>\))|(?P<bar>\|)
    |(?P<quantifier>[*+?]|\{\d+(?:,\d*)?\})
    |(?P<atom>\\x[0-9a-fA-F]{2}|\\[dDwWsS]|\\[^a-zA-Z0-9]|\\[tnrfv]
        |\[\^?\]?(?:\\.|[^\]\\])*\]|[^\\\[\](){}*+?|^$])
    |(?P<brace>[{}])""",
    re.VERBOSE | re.DOTALL,
)
_EVERY = bytes(range(256))


@dataclass(slots=True)
class _Group:
    """An open group: `firm` when every match passes through all of it exactly once."""

    start: int
    firm: bool
    branches: int = 1


@dataclass(slots=True)
class _Scan:
    """`loose`: what the open quantifiers can take; `ways`: how often the engine may choose."""

    text: str
    loose: frozenset[int] = frozenset()
    ways: int = 1

    def choose(self, ways: int) -> None:
        self.ways *= ways
        if self.ways > MAX_WAYS:
            self.refuse(f"optional spots and alternatives make more than {MAX_WAYS} combinations")

    def refuse(self, reason: str) -> NoReturn:
        raise ValueError(f"expression {self.text!r}: {reason}")


def compile_bounded(text: str) -> re.Pattern[bytes]:
    """The expression, to be used with `fits`; `ValueError` says why it is refused."""
    if len(text) > MAX_LENGTH or not text.isascii():
        raise ValueError(f"an expression is at most {MAX_LENGTH} ASCII characters")
    body = text.removeprefix("^")
    body = body[:-1] if body.endswith("$") and not body.endswith("\\$") else body
    try:
        pattern = re.compile(body.encode(), re.DOTALL)
    except (re.error, OverflowError, FutureWarning) as fault:
        raise ValueError(f"expression {text!r} is not valid: {fault}") from None
    _check(body, _Scan(text))
    return pattern


def fits(pattern: re.Pattern[bytes], value: bytes) -> bool:
    return len(value) <= MAX_INPUT and pattern.fullmatch(value) is not None


def literal_start(text: str) -> bytes:
    """The characters that every match starts with, as far as they are plain."""
    body = text.removeprefix("^")
    if "|" in body:
        return b"/"
    plain = re.match(r"(?:[A-Za-z0-9/_~%:@!,;=&-]|\\[./-])*", body)
    assert plain is not None
    start = plain[0]
    if body[plain.end() : plain.end() + 1] in ("*", "?", "{"):
        start = start[:-1].removesuffix("\\")
    return start.replace("\\", "").encode() or b"/"


def _check(body: str, scan: _Scan) -> None:
    tokens = _tokens(body, scan)
    groups = [_Group(0, True)]
    for index, (kind, token) in enumerate(tokens):
        if kind == "group":
            groups.append(_Group(index, groups[-1].firm and _is_firm(tokens, index)))
        elif kind == "close":
            _close(tokens, groups.pop(), index, scan)
        elif kind == "bar":
            groups[-1].branches += 1
            scan.choose(groups[-1].branches)
            scan.loose = scan.loose if len(groups) > 1 else frozenset()
        elif kind == "atom":
            _atom(token, _quantifier(tokens, index), groups[-1].firm, scan)


def _tokens(body: str, scan: _Scan) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(body):
        found = _TOKEN.match(body, at)
        if found is None or found.lastgroup == "brace":
            scan.refuse(
                f"{body[at : at + 3]!r} is not allowed "
                "(no backreference, lookaround, flag or inner anchor)"
            )
        tokens.append((str(found.lastgroup), found[0]))
        at = found.end()
    return tokens


def _quantifier(tokens: list[tuple[str, str]], index: int) -> str:
    """What stands behind the token: nothing, a quantifier, or one with its `?` or `+`."""
    quantifier = ""
    for kind, token in tokens[index + 1 : index + 3]:
        if kind != "quantifier":
            break
        quantifier += token
    return quantifier


def _fixed(quantifier: str) -> bool:
    return not quantifier or re.fullmatch(r"\{0*[1-9]\d*\}", quantifier) is not None


def _is_firm(tokens: list[tuple[str, str]], start: int) -> bool:
    """Whether the group opened at `start` is neither quantified nor an alternative."""
    depth = 0
    for index, (kind, _) in enumerate(tokens[start:], start):
        depth += (kind == "group") - (kind == "close")
        if kind == "bar" and depth == 1:
            return False
        if depth == 0:
            return not _quantifier(tokens, index)
    return False


def _close(tokens: list[tuple[str, str]], group: _Group, end: int, scan: _Scan) -> None:
    quantifier = _quantifier(tokens, end)
    if quantifier == "?":
        scan.choose(2)
    elif quantifier:
        inside = {kind for kind, _ in tokens[group.start : end]}
        if "quantifier" in inside:
            scan.refuse("nested quantifiers can take too long; repeat a single class instead")
        if not _fixed(quantifier) or "bar" in inside:
            scan.refuse("a repeated group can take too long; repeat a single class instead")


def _atom(token: str, quantifier: str, firm: bool, scan: _Scan) -> None:
    takes = _set_of(token)
    if _fixed(quantifier):
        if firm and not takes & scan.loose:
            scan.loose = frozenset()
        return
    if scan.loose & takes:
        scan.refuse(
            f"{token + quantifier!r} can take what the quantifier before it takes too; "
            "put a character between that the first cannot take"
        )
    if quantifier == "?":
        scan.choose(2)
    scan.loose = scan.loose | takes


def _set_of(token: str) -> frozenset[int]:
    if len(token) == 1 and token != ".":
        return frozenset(token.encode())
    return frozenset(b"".join(re.findall(token.encode(), _EVERY, re.DOTALL)))
