"""What a single rule may get wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from gateway.rules import hosts, paths, predicates, windows
from gateway.rules.model import Document, HeaderEdits, Matcher, Retry, Rule, Value
from gateway.rules.source import Path

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\uffff]*\Z")
_ADDRESS = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})\Z")
OURS = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade"}
    | {"keep-alive", "proxy-connection", "expect", "x-passport"}
)
"""Framing, hop-by-hop and identity headers: not for a rule to write."""


@dataclass(frozen=True, slots=True)
class Finding:
    path: Path
    reason: str
    warning: bool = False


def is_token(text: str) -> bool:
    return _TOKEN.match(text) is not None


def is_address(text: str) -> bool:
    """`host:port`, an IPv6 address in brackets."""
    found = _ADDRESS.match(text)
    return found is not None and 0 < int(found[2]) < 65_536


def is_resolvable(text: str) -> bool:
    """An address whose host a resolver takes: no label empty or over 63 characters, no more than
    253 in all, without the dot that may end it."""
    name = text.rpartition(":")[0].removesuffix(".")
    return len(name) <= 253 and all(0 < len(label) <= 63 for label in name.split("."))


def is_host(text: str) -> bool:
    """One host's name, with or without a port."""
    name, colon, port = text.rpartition(":")
    bare = name if colon and port.isdigit() else text
    return not bare.startswith("*") and not list(builds(lambda: hosts.host_spec(bare), ()))


def builds(build: Callable[[], object], at: Path) -> Iterator[Finding]:
    """A finding when `build` raises `ValueError`; its text is the reason."""
    try:
        build()
    except ValueError as fault:
        yield Finding(at, str(fault))


def check(rule: Rule, document: Document) -> Iterator[Finding]:
    """Findings with paths relative to the rule."""
    yield from _action(rule, document)
    yield from _references(rule, document)
    yield from _edits(rule)
    yield from _attempts(rule)
    yield from _not_served(rule)
    sound = True
    for at, matcher in _matchers(rule):
        for finding in check_matcher(matcher, at):
            sound = False
            yield finding
    if sound:
        yield from _rewrite(rule)
        yield from _redirect(rule)
        yield from _identity(rule)
        yield from _connects(rule)


def _matchers(rule: Rule) -> Iterator[tuple[Path, Matcher]]:
    if isinstance(rule.match, Matcher):
        yield ("match",), rule.match
        return
    for index, matcher in enumerate(rule.match):
        yield ("match", index), matcher


def _action(rule: Rule, document: Document) -> Iterator[Finding]:
    actions = {"forward": rule.forward, "redirect": rule.redirect, "reply": rule.reply}
    given = [name for name, value in actions.items() if value is not None]
    if len(given) != 1:
        said = f"not {' and '.join(given)}" if given else "and has none"
        yield Finding((), f"needs exactly one of forward, redirect and reply, {said}")
    if isinstance(rule.match, tuple) and not rule.match:
        yield Finding(("match",), "an empty list of matches fits nothing")
    for name in rule.weights:
        at = ("forward",) if isinstance(rule.forward, str) else ("forward", name)
        yield from _known("cluster", name, document.clusters, at)
    if rule.forward is not None and not any(rule.weights.values()):
        yield Finding(("forward",), "forwards to no cluster: answers 500", warning=True)
    if rule.reply is not None and rule.reply.status in (204, 304) and rule.reply.body:
        yield Finding(("reply", "body"), f"a {rule.reply.status} has no body")


def _references(rule: Rule, document: Document) -> Iterator[Finding]:
    if rule.auth is not None:
        yield from _known("auth policy", rule.auth, document.auth, ("auth",))
    if rule.rate_limit is not None:
        yield from _known("limit", rule.rate_limit, document.limits, ("rate_limit",))
    if rule.mirror is not None:
        yield from _known("cluster", rule.mirror.cluster, document.clusters, ("mirror",))
    for index, name in enumerate(rule.filters):
        yield from _known("filter", name, document.filters, ("filters", index))


def _not_served(rule: Rule) -> Iterator[Finding]:
    """What may be written and does nothing yet: a rule must not seem to do what it does not."""
    if rule.filters:
        yield Finding(("filters",), "filters are not loaded from documents yet: leave them out")
    for name in ("mirror", "cors"):
        if getattr(rule, name) is not None:
            yield Finding((name,), f"{name} is not served yet: leave it out")


def _connects(rule: Rule) -> Iterator[Finding]:
    for at, matcher in _matchers(rule):
        if "CONNECT" not in matcher.methods:
            continue
        if rule.forward is None or rule.rewrite is not None:
            reason = "a CONNECT is forwarded as it is: no reply, redirect or rewrite"
            yield Finding((*at, "methods"), reason)
        if not predicates.path_spec(matcher).fits(b"/"):
            yield Finding((*at, "methods"), "a CONNECT has no path but '/': it would never fit")


def _known(what: str, name: str, known: dict[str, Any], at: Path) -> Iterator[Finding]:
    if name not in known:
        close = get_close_matches(name, known, n=1)
        meant = f", did you mean {close[0]!r}?" if close else ""
        yield Finding(at, f"{what} {name!r} is not known{meant}")


def _edits(rule: Rule) -> Iterator[Finding]:
    yield from _edit("request_headers", rule.request_headers)
    yield from _edit("response_headers", rule.response_headers)
    if rule.reply is not None:
        for name, value in rule.reply.headers.items():
            yield from _header(name, value, ("reply", "headers", name))


def _edit(section: str, edits: HeaderEdits) -> Iterator[Finding]:
    for verb, pairs in (("set", edits.set), ("add", edits.add)):
        for name, value in pairs.items():
            yield from _header(name, value, (section, verb, name))
    for name in edits.remove:
        yield from _header(name, "", (section, "remove"))


def _header(name: str, value: str, at: Path) -> Iterator[Finding]:
    if not is_token(name):
        yield Finding(at, f"{name!r} is no header name")
    if not _VALUE.match(value):
        yield Finding(at, f"header {name!r}: its value has control characters")
    if name.lower() in OURS:
        yield Finding(at, f"header {name!r} is the gateway's own and cannot be edited")


def _attempts(rule: Rule) -> Iterator[Finding]:
    """What the rule says of its attempts."""
    for name in ("retry", "hedge"):
        if getattr(rule, name) is not None and rule.forward is None:
            yield Finding((name,), f"only what is forwarded has attempts: leave {name} out")
    retry, hedge = rule.retry, rule.hedge
    if retry is None:
        return
    attempt = retry.attempt_timeout_s
    if attempt is not None and rule.timeout_s is not None and attempt > rule.timeout_s:
        reason = f"attempt_timeout_s {attempt:g} is longer than timeout_s {rule.timeout_s:g}"
        yield Finding(("retry", "attempt_timeout_s"), reason)
    if retry.attempts == 1 and retry.statuses != Retry().statuses:
        reason = "with one attempt in all no status is tried again: raise attempts"
        yield Finding(("retry", "statuses"), reason, warning=True)
    if hedge is not None and attempt is not None and hedge.least_s >= attempt:
        reason = f"least_s {hedge.least_s:g} is not below the attempt's timeout of {attempt:g}"
        yield Finding(("hedge", "least_s"), reason)


def check_matcher(matcher: Matcher, at: Path) -> Iterator[Finding]:
    """What is wrong in a matcher, nested ones included."""
    for host in matcher.hosts:
        yield from builds(lambda host=host: hosts.host_spec(host), (*at, "hosts"))  # type: ignore[misc]
    yield from builds(lambda: predicates.path_spec(matcher), (*at, _path_field(matcher)))
    for kind in ("headers", "query", "cookies", "claims"):
        for name, value in getattr(matcher, kind).items():
            yield from _value(kind, name, value, (*at, kind, name))
    for text in matcher.clients:
        yield from builds(lambda text=text: predicates.network(text), (*at, "clients"))  # type: ignore[misc]
    if (window := matcher.window) is not None:
        yield from builds(lambda: windows.compile_window(window), (*at, "window"))
    if (sticky := matcher.sticky) is not None:
        yield from builds(lambda: predicates.sticky_reader(sticky.by), (*at, "sticky"))
    for name in ("all", "any"):
        for index, part in enumerate(getattr(matcher, name)):
            yield from check_matcher(part, (*at, name, index))
    if matcher.not_ is not None:
        yield from check_matcher(matcher.not_, (*at, "not"))


def _value(kind: str, name: str, value: str | Value, at: Path) -> Iterator[Finding]:
    if kind == "headers" and not is_token(name):
        yield Finding(at, f"{name!r} is no header name")
    if isinstance(value, Value):
        for finding in builds(lambda: predicates.value_test(value), at):
            yield Finding(at, f"{kind} {name!r}: {finding.reason}")


def _path_field(matcher: Matcher) -> str:
    fields = ("path", "path_prefix", "path_template", "path_regex")
    given = [name for name in fields if getattr(matcher, name) is not None]
    return given[-1] if given else "path"


def _rewrite(rule: Rule) -> Iterator[Finding]:
    rewrite, at = rule.rewrite, ("rewrite",)
    if rewrite is None:
        return
    if rule.forward is None:
        yield Finding(at, "only what is forwarded can be rewritten")
    given = [text for text in (rewrite.path, rewrite.prefix, rewrite.template) if text is not None]
    if len(given) > 1:
        yield Finding(at, "give one of path, prefix and template")
    for text in given:
        if not text.startswith("/") or any(c <= " " or c in "?#\x7f" for c in text):
            yield Finding(at, f"{text!r} must be a path: it starts with '/', without '?' and '#'")
    if rewrite.host is not None and not is_host(rewrite.host):
        yield Finding((*at, "host"), f"host {rewrite.host!r} is not valid")
    specs = [predicates.path_spec(matcher) for matcher in rule.matchers]
    if len({(spec.kind, spec.text) for spec in specs}) > 1 and (rewrite.prefix or rewrite.template):
        yield Finding(at, "prefix and template need the same path in every match")
    elif rewrite.prefix is not None and specs[0].kind != "prefix":
        yield Finding((*at, "prefix"), "prefix needs a match with path_prefix")
    elif rewrite.template is not None:
        yield from _captures(rewrite.template, specs[0].captures, (*at, "template"))


def _captures(template: str, known: frozenset[str], at: Path) -> Iterator[Finding]:
    for name in sorted(paths.capture_names(template) - known):
        yield Finding(at, f"{{{name}}} is captured by no path_template or path_regex here")


def _redirect(rule: Rule) -> Iterator[Finding]:
    if rule.redirect is None:
        return
    location, at = rule.redirect.location, ("redirect", "location")
    if not location.startswith(("/", "{path}", "http://", "https://")):
        yield Finding(at, f"location {location!r} must be a path or an http(s) URL")
    if not location.isascii() or any(c <= " " or c == "\x7f" for c in location):
        yield Finding(at, f"location {location!r} must be ASCII without spaces")
    specs = [predicates.path_spec(matcher) for matcher in rule.matchers]
    known = frozenset.intersection(*(spec.captures for spec in specs))
    yield from _captures(location, known | {"path", "query", "host"}, at)


def _identity(rule: Rule) -> Iterator[Finding]:
    if rule.auth is not None:
        return
    if rule.scopes:
        yield Finding(("scopes",), "scopes need an auth policy")
    for at, matcher in _matchers(rule):
        if _uses_claims(matcher):
            yield Finding(at, "conditions on claims need an auth policy")


def _uses_claims(matcher: Matcher) -> bool:
    sticky = matcher.sticky is not None and matcher.sticky.by.startswith("claim:")
    nested = [*matcher.all, *matcher.any, *([matcher.not_] if matcher.not_ else [])]
    return bool(matcher.claims) or sticky or any(_uses_claims(part) for part in nested)
