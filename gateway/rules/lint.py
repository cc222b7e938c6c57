"""What a well-formed document may still get wrong, every fault with its line.

Each check yields where and why; `lint` puts the line to it. Warnings do not refuse a document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path as FilePath

from gateway.rules import lint_rule, reach
from gateway.rules.explain import request_of
from gateway.rules.lint_rule import Finding, builds, is_address, is_host, is_resolvable
from gateway.rules.model import Cluster, Document, JwksSource
from gateway.rules.source import Fault, Source

MAX_PRECEDENCES = 16
_NO_NAME = "has an empty label, one over 63 characters, or over 253 in all"


def lint(document: Document, source: Source, *, folder: FilePath | None = None) -> list[Fault]:
    """All findings; files that the document names are looked up beside it in `folder`."""
    found = [
        *_clusters(document),
        *_auth(document, folder),
        *_limits(document),
        *_rules(document),
        *_golden(document),
    ]
    if not source.faults and all(finding.warning for finding in found):
        found += reach.unreachable(document)
    faults = {source.fault(f.path, f.reason, warning=f.warning) for f in found}
    return sorted(faults, key=lambda fault: (fault.line, fault.reason))


def _clusters(document: Document) -> Iterator[Finding]:
    used = {name for rule in document.rules for name in rule.weights}
    used |= {rule.mirror.cluster for rule in document.rules if rule.mirror}
    sources = [policy.jwks for policy in document.auth.values()]
    used |= {source.cluster for source in sources if source is not None and source.cluster}
    for name, cluster in document.clusters.items():
        at = ("clusters", name)
        for reason in _cluster_faults(cluster):
            yield Finding(at, f"cluster {name!r}: {reason}")
        if name not in used:
            yield Finding(at, f"cluster {name!r} is used by no rule", warning=True)


def _cluster_faults(cluster: Cluster) -> Iterator[str]:
    if [cluster.service is None, not cluster.instances, cluster.dns is None].count(False) != 1:
        yield "give one of the 'service' of the registry, a list of 'instances' and a 'dns' name"
    if cluster.dns is not None and not is_address(cluster.dns):
        yield f"dns {cluster.dns!r} is not host:port"
    elif cluster.dns is not None and not is_resolvable(cluster.dns):
        yield f"dns {cluster.dns!r} {_NO_NAME}"
    for instance in cluster.instances:
        if not is_address(instance):
            yield f"instance {instance!r} is not host:port"
        elif not is_resolvable(instance):
            yield f"instance {instance!r} {_NO_NAME}"
    if len(set(cluster.instances)) < len(cluster.instances):
        yield "an instance is listed twice"
    if cluster.idle_s >= cluster.instance_idle_s:
        yield (
            f"idle_s {cluster.idle_s:g} must be shorter than instance_idle_s "
            f"{cluster.instance_idle_s:g}, or requests meet connections that just closed"
        )
    health = cluster.health
    if health is not None and health.host is not None and not is_host(health.host):
        yield f"health: host {health.host!r} is no host name"


def _auth(document: Document, folder: FilePath | None) -> Iterator[Finding]:
    for name, policy in document.auth.items():
        at = ("auth", name)
        if (policy.jwks is None) == (policy.certificate is None):
            yield Finding(at, f"auth {name!r}: give either 'jwks' or 'certificate'")
            continue
        if policy.jwks is None:
            for field in ("issuer", "audience"):
                if getattr(policy, field):
                    yield Finding((*at, field), f"auth {name!r}: {field!r} is of tokens only")
            continue
        for reason in _jwks_faults(policy.jwks, document, folder):
            yield Finding((*at, "jwks"), f"auth {name!r}: {reason}")
        for field in ("issuer", "audience"):
            if not getattr(policy, field):
                yield Finding((*at, field), f"auth {name!r}: {field!r} must not be empty")
        if not policy.algorithms:
            yield Finding(
                (*at, "algorithms"), f"auth {name!r}: 'algorithms' must name at least one"
            )


def _jwks_faults(jwks: JwksSource, document: Document, folder: FilePath | None) -> Iterator[str]:
    given = [source for source in (jwks.file, jwks.url, jwks.cluster) if source is not None]
    if len(given) != 1:
        yield "jwks needs exactly one of file, url and cluster"
    if jwks.url is not None and not jwks.url.startswith(("https://", "http://")):
        yield f"jwks url {jwks.url!r} must start with https:// or http://"
    if jwks.cluster is not None and jwks.cluster not in document.clusters:
        yield f"jwks cluster {jwks.cluster!r} is not known"
    if not jwks.path.startswith("/"):
        yield f"jwks path {jwks.path!r} must start with '/'"
    if jwks.file is not None and folder is not None and not (folder / jwks.file).is_file():
        yield f"jwks file {jwks.file!r} does not exist"


def _limits(document: Document) -> Iterator[Finding]:
    for name, limit in document.limits.items():
        kind, _, header = limit.key.partition(":")
        plain = limit.key in ("client", "account", "device", "api_key")
        if not plain and not (kind == "header" and lint_rule.is_token(header)):
            reason = "'key' is client, account, device, api_key or header:NAME"
            yield Finding(("limits", name, "key"), f"limit {name!r}: {reason}, not {limit.key!r}")
        if limit.cost > limit.burst:
            reason = f"a request costs {limit.cost}, more than the burst of {limit.burst}"
            yield Finding(("limits", name), f"limit {name!r}: {reason}, so none would ever pass")


def _rules(document: Document) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for index, rule in enumerate(document.rules):
        if rule.name in seen:
            reason = f"rule {rule.name!r}: the name is taken by rules[{seen[rule.name]}]"
            yield Finding(("rules", index, "name"), reason)
        seen.setdefault(rule.name, index)
        for finding in lint_rule.check(rule, document):
            path = ("rules", index, *finding.path)
            yield Finding(path, f"rule {rule.name!r}: {finding.reason}", finding.warning)
    yield from _precedences(document)


def _precedences(document: Document) -> Iterable[Finding]:
    values = {rule.precedence for rule in document.rules}
    if len(values) > MAX_PRECEDENCES:
        reason = f"{len(values)} values of 'precedence'; more than {MAX_PRECEDENCES} slow matching"
        yield Finding(("rules",), reason)


def _golden(document: Document) -> Iterator[Finding]:
    names = {rule.name for rule in document.rules}
    for index, golden in enumerate(document.golden):
        at = ("golden", index)
        method, _, url = golden.request.partition(" ")
        connects = method == "CONNECT"
        if not method or not (connects or url.startswith(("/", "http://", "https://"))):
            reason = f"golden request {golden.request!r} must be 'METHOD /path' or 'METHOD URL'"
            yield Finding((*at, "request"), reason)
            continue
        for fault in builds(lambda m=method, u=url: request_of(m, u), (*at, "request")):  # type: ignore[misc]
            yield Finding(fault.path, f"golden request {golden.request!r}: {fault.reason}")
        if golden.rule is not None and golden.rule not in names:
            reason = f"golden request {golden.request!r}: rule {golden.rule!r} is not known"
            yield Finding((*at, "rule"), reason)
