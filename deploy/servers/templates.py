"""The configuration files of the servers, kept as templates beside this module."""

from __future__ import annotations

from pathlib import Path
from string import Template

from chassis.disk.files import replace_file

DATA = Path(__file__).parent / "data"


def fill(template: str, **values: object) -> str:
    """`data/<template>` with every $name filled in; a name without a value is an error."""
    text = (DATA / template).read_text(encoding="utf-8")
    return Template(text).substitute({name: str(value) for name, value in values.items()})


def write(file: Path, text: str) -> None:
    """Only its owner may read it: it may hold a password."""
    replace_file(file, text.encode(), mode=0o600)
