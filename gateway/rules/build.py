"""Text to snapshot, the one way: parse, lint, compile, replay the golden requests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from chassis.clock import Clock
from chassis.errors import ConfigurationFault
from gateway.rules.compile import compile_document
from gateway.rules.explain import replay
from gateway.rules.lint import lint
from gateway.rules.match import Snapshot
from gateway.rules.model import Document
from gateway.rules.parse import parse
from gateway.rules.source import Fault, Source


class RulesFault(ConfigurationFault):
    """A document that cannot serve; `findings` are its faults with file and line."""

    code = "rules_invalid"

    def __init__(self, findings: Sequence[Fault]) -> None:
        super().__init__([str(finding) for finding in findings], what="the rules")
        self.findings = tuple(findings)


def content_hash(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def check(text: bytes, file: str, *, folder: Path | None = None) -> tuple[Document, list[Fault]]:
    """The document and what is wrong with it in the order of lines; warnings when nothing is."""
    source = Source(text, file)
    document, faults = parse(source)
    if source.data is not None:
        faults += lint(document, source, folder=folder)
    refused = [fault for fault in faults if not fault.warning]
    return document, sorted(set(refused or faults), key=lambda fault: (fault.line, fault.reason))


def judge(text: bytes, file: str, clock: Clock, *, folder: Path | None = None) -> Sequence[Fault]:
    """What the gateway would say of the document: why it is refused, or its warnings."""
    try:
        return build(text, file, clock, version=0, folder=folder)[1]
    except RulesFault as refused:
        return refused.findings


def build(
    text: bytes, file: str, clock: Clock, *, version: int, folder: Path | None = None
) -> tuple[Snapshot, list[Fault]]:
    """The snapshot and its warnings; raises `RulesFault` with every fault of the document."""
    document, findings = check(text, file, folder=folder)
    if any(not finding.warning for finding in findings):
        raise RulesFault(findings)
    snapshot = compile_document(
        document, clock, version=version, content_hash=content_hash(text), source=text
    )
    failed = [
        (index, reason)
        for index, golden in enumerate(document.golden)
        if (reason := replay(snapshot, golden)) is not None
    ]
    if failed:
        source = Source(text, file)
        raise RulesFault([source.fault(("golden", index), reason) for index, reason in failed])
    return snapshot, findings
