"""Conditions on a request: each says itself in words and tests a view.

Building one raises `ValueError` with what is wrong with it; lint calls the same builders.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from chassis.clock import Clock
from gateway.rules import expression, hosts, paths, windows
from gateway.rules.devices import device_class
from gateway.rules.model import Matcher, Sticky, Value
from gateway.rules.paths import PathSpec
from gateway.rules.route import View

Test = Callable[[View], bool]
Values = Callable[[View], list[bytes]]


@dataclass(frozen=True, slots=True)
class Predicate:
    """`claims` marks one that can only be decided once a credential was verified."""

    says: str
    test: Test
    claims: bool = False


def path_spec(matcher: Matcher) -> PathSpec:
    """How the path has to be; `path_prefix: /` when nothing is said."""
    given = [
        build(text)
        for text, build in (
            (matcher.path, paths.exact),
            (matcher.path_template, paths.template),
            (matcher.path_prefix, paths.prefix),
            (matcher.path_regex, paths.regex),
        )
        if text is not None
    ]
    if len(given) > 1:
        raise ValueError("give one of path, path_prefix, path_template and path_regex")
    return given[0] if given else paths.prefix("/")


def conditions(matcher: Matcher, clock: Clock) -> tuple[Predicate, ...]:
    """Everything a matcher says beyond hosts, path and methods."""
    return tuple(_conditions(matcher, clock))


def _conditions(matcher: Matcher, clock: Clock) -> Iterator[Predicate]:
    for kind, wanted, read in (
        ("header", matcher.headers, _header),
        ("query", matcher.query, _query),
        ("cookie", matcher.cookies, _cookie),
        ("claim", matcher.claims, _claim),
    ):
        for name, value in wanted.items():
            yield _value(kind, name, value, read(name))
    if matcher.clients:
        yield _clients(matcher.clients)
    if matcher.devices:
        yield _devices(matcher.devices)
    if matcher.window is not None:
        opens = windows.compile_window(matcher.window)
        says = windows.describe(matcher.window)
        yield Predicate(f"time {says}", lambda _: opens(clock.now()))
    if matcher.sticky is not None:
        yield _sticky(matcher.sticky)
    yield from _nested(matcher, clock)


def _nested(matcher: Matcher, clock: Clock) -> Iterator[Predicate]:
    if matcher.all:
        yield from (whole(part, clock) for part in matcher.all)
    if matcher.any:
        yield _any_of([whole(part, clock) for part in matcher.any])
    if matcher.not_ is not None:
        inner = whole(matcher.not_, clock)
        yield Predicate(f"not ({inner.says})", lambda view: not inner.test(view), inner.claims)


def whole(matcher: Matcher, clock: Clock) -> Predicate:
    """A nested matcher as one predicate, host, path and methods included."""
    return _all_of([*_shape(matcher), *conditions(matcher, clock)])


def _shape(matcher: Matcher) -> Iterator[Predicate]:
    if matcher.hosts:
        specs = [hosts.host_spec(host) for host in matcher.hosts]
        says = " or ".join(map(str, specs))
        yield Predicate(f"host {says}", lambda view: any(s.fits(view.host) for s in specs))
    path = path_spec(matcher)
    if path.text != "/" or path.kind != "prefix":
        yield Predicate(str(path), lambda view: _path_fits(path, view.path))
    if matcher.methods:
        methods = frozenset(method.encode() for method in matcher.methods)
        says = " or ".join(matcher.methods)
        yield Predicate(f"method {says}", lambda view: view.method in methods)


def _path_fits(spec: PathSpec, raw: bytes) -> bool:
    path = paths.normalise(raw)
    return path is not None and spec.fits(path)


def _all_of(parts: Sequence[Predicate]) -> Predicate:
    tests = [part.test for part in parts]
    says = " and ".join(part.says for part in parts) or "anything"
    needs = any(part.claims for part in parts)
    return Predicate(says, lambda view: all(test(view) for test in tests), needs)


def _any_of(parts: Sequence[Predicate]) -> Predicate:
    tests = [part.test for part in parts]
    says = "(" + " or ".join(part.says for part in parts) + ")"
    needs = any(part.claims for part in parts)
    return Predicate(says, lambda view: any(test(view) for test in tests), needs)


def _value(kind: str, name: str, value: str | Value, read: Values) -> Predicate:
    wanted = Value(exact=value) if isinstance(value, str) else value
    fits, says = value_test(wanted)
    return Predicate(f"{kind} {name} {says}", lambda view: fits(read(view)), kind == "claim")


def value_test(wanted: Value) -> tuple[Callable[[list[bytes]], bool], str]:
    """Whether any of a name's values is as wanted, and that in words."""
    tests = _single_tests(wanted)
    says = " and ".join(says for says, _ in tests)
    if wanted.present is False:
        if tests:
            raise ValueError("'present: false' leaves no value for other conditions")
        return (lambda values: not values), "absent"
    if not tests:
        if wanted.present is None:
            raise ValueError("a condition on a value must say at least one thing")
        return bool, "present"
    if len(tests) == 1:
        only = tests[0][1]
        return (lambda values: any(only(value) for value in values)), says
    every = [test for _, test in tests]
    return (lambda values: any(all(t(value) for t in every) for value in values)), says


def _single_tests(wanted: Value) -> list[tuple[str, Callable[[bytes], bool]]]:
    tests: list[tuple[str, Callable[[bytes], bool]]] = []
    if wanted.exact is not None:
        tests.append((f"= {wanted.exact!r}", wanted.exact.encode().__eq__))
    if wanted.prefix is not None:
        start = wanted.prefix.encode()
        tests.append((f"starts with {wanted.prefix!r}", lambda value: value.startswith(start)))
    if wanted.suffix is not None:
        end = wanted.suffix.encode()
        tests.append((f"ends with {wanted.suffix!r}", lambda value: value.endswith(end)))
    if wanted.contains is not None:
        part = wanted.contains.encode()
        tests.append((f"contains {wanted.contains!r}", lambda value: part in value))
    if wanted.regex is not None:
        pattern = expression.compile_bounded(wanted.regex)
        tests.append((f"fits {wanted.regex!r}", lambda value: expression.fits(pattern, value)))
    if wanted.one_of:
        known = frozenset(item.encode() for item in wanted.one_of)
        tests.append((f"is one of {', '.join(wanted.one_of)}", known.__contains__))
    return tests


def _header(name: str) -> Values:
    wanted = name.lower().encode()
    return lambda view: [value for field, value in view.headers if field == wanted]


def _query(name: str) -> Values:
    wanted = name.encode()

    def read(view: View) -> list[bytes]:
        pairs = (pair.partition(b"=") for pair in view.query.split(b"&") if pair)
        return [_plain(value) for key, _, value in pairs if _plain(key) == wanted]

    return read


def _plain(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _cookie(name: str) -> Values:
    wanted = name.encode()

    def read(view: View) -> list[bytes]:
        lines = (value for field, value in view.headers if field == b"cookie")
        pairs = (pair.partition(b"=") for line in lines for pair in line.split(b";"))
        return [value.strip() for key, _, value in pairs if key.strip() == wanted]

    return read


def _claim(name: str) -> Values:
    def read(view: View) -> list[bytes]:
        claims = getattr(view, "claims", None) or {}
        return list(_claim_values(name, claims.get(name)))

    return read


def _claim_values(name: str, value: object) -> Iterable[bytes]:
    """A list's items; the words of `scope` (RFC 8693); booleans as in JSON."""
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [str(item).encode() for item in value]
    if isinstance(value, bool):
        return [b"true" if value else b"false"]
    if name in ("scope", "scp") and isinstance(value, str):
        return value.encode().split()
    return [str(value).encode()]


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as fault:
        raise ValueError(f"client {text!r} is no address or CIDR: {fault}") from None


def _clients(texts: Sequence[str]) -> Predicate:
    networks = [network(text) for text in texts]

    def inside(view: View) -> bool:
        try:
            address = ipaddress.ip_address(view.client)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in known for known in networks)

    return Predicate(f"client in {' or '.join(texts)}", inside)


def _devices(wanted: Sequence[str]) -> Predicate:
    known = frozenset(wanted)
    says = f"device {' or '.join(wanted)}"
    return Predicate(says, lambda view: device_class(view.headers) in known)


def sticky_reader(by: str) -> Values:
    """What sticks: `client`, `header:NAME`, `cookie:NAME` or `claim:NAME`."""
    kind, _, name = by.partition(":")
    if by == "client":
        return lambda view: [view.client.encode()]
    readers = {"header": _header, "cookie": _cookie, "claim": _claim}
    if kind not in readers or not name:
        raise ValueError(f"'by' is client, header:NAME, cookie:NAME or claim:NAME, not {by!r}")
    return readers[kind](name)


def _sticky(sticky: Sticky) -> Predicate:
    read = sticky_reader(sticky.by)
    limit = sticky.percent / 100
    salt = sticky.salt.encode()

    def chosen(view: View) -> bool:
        values = read(view)
        return bool(values) and share_of(salt, values[0]) < limit

    says = f"{sticky.percent:g} % of {sticky.by}"
    return Predicate(says, chosen, sticky.by.startswith("claim:"))


def share_of(salt: bytes, value: bytes) -> float:
    """Where a value falls in [0, 1): the same everywhere and always."""
    digest = hashlib.blake2b(value, digest_size=8, key=salt[:64]).digest()
    return int.from_bytes(digest) / 2**64
