"""The configuration files of the servers, kept as templates beside this module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template

from chassis.disk.files import replace_file

DATA = Path(__file__).parent / "data"


def fill(template: str, **values: object) -> str:
    """`data/<template>` with every $name filled in; a name without a value is an error."""
    return _filled(DATA / template, values)


def extra(file: Path, **values: object) -> str:
    """Settings that somebody wrote beside the server's own, filled in likewise; mostly none."""
    return _filled(file, values) if file.exists() else ""


def write(file: Path, text: str) -> None:
    """Only its owner may read it: it may hold a password."""
    replace_file(file, text.encode(), mode=0o600)


def _filled(file: Path, values: Mapping[str, object]) -> str:
    text = file.read_text(encoding="utf-8")
    return Template(text).substitute({name: str(value) for name, value in values.items()})
