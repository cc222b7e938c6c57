"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from deploy.cli import app
from play_api.plan import PLAN, Criticality

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
ENDS = {
    Criticality.CRITICAL: "without a stand-in the Play fails",
    Criticality.OPEN: "the Play goes on, bounded",
    Criticality.DEGRADE: "the Play goes on",
}


def plan_table() -> str:
    """The rows of docs/resilience.md between its two marks."""
    rows = [
        "| step | when it fails | what stands in | never |",
        "|---|---|---|---|",
        *(
            f"| {step.name} | {ENDS[step.criticality]} | {step.fallback} | {step.never} |"
            for step in PLAN
        ),
    ]
    return "\n".join(rows)


def test_the_resilience_table_is_the_plan() -> None:
    text = (ROOT / "docs" / "resilience.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("<!-- plan -->\n")
    shown, _, _ = rest.partition("\n<!-- /plan -->")
    assert shown == plan_table(), "write this instead:\n" + plan_table()


def commands() -> set[str]:
    """Every command of the command line, sub-commands as `rules lint`."""
    found = set()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        found.add(name)
        found |= {f"{name} {inner}" for inner in getattr(command, "commands", {})}
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    known = commands()
    for named in re.findall(r"`(?:\.venv/bin/)?stagedoor ([a-z]+(?: [a-z]+)?)", text):
        first, _, second = named.partition(" ")
        assert named in known or first in known, f"{document.name}: stagedoor {named}"
        if any(one.startswith(f"{first} ") for one in known):
            assert not second or named in known, f"{document.name}: stagedoor {named}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_target_and_every_link_of_a_document_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / link).exists(), f"{document.name} links to {link}"


def test_the_makefile_lists_every_target_with_its_purpose() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    for target in phony.split():
        assert re.search(rf"^{target}:.*## \w+", makefile, re.MULTILINE), target


def test_every_command_that_ends_has_json() -> None:
    listed = [
        one
        for name, command in get_command(app).commands.items()  # type: ignore[attr-defined]
        for one in getattr(command, "commands", {name: command}).values()
    ]
    silent = [one.name for one in listed if all("--json" not in p.opts for p in one.params)]
    assert silent == ["run"]
