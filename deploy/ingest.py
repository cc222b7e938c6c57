"""Fills the catalogue and its licence windows from a film list.

Reads the whole file first: a broken one is refused before anything is written. Rows that cannot be
used are refused one by one and reported, like every repair. Running it again changes nothing:
ids, derived facts and licence windows follow from the rows alone.

Order of writing: licence windows, then titles, then the catalogue's generation. A title therefore
never appears before the right to show it, and running services load all of it or nothing.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from chassis.clock import Clock
from chassis.errors import ConfigurationFault
from chassis.storage import Tables, open_tables
from microservices.catalog.model import Film, Note, Title, titles_from
from microservices.catalog.store import ROWS as CATALOG_ROWS
from microservices.catalog.store import write_titles
from microservices.rights.model import default_windows
from microservices.rights.store import ROWS as RIGHTS_ROWS
from microservices.rights.store import write_windows

FILMS = Path(__file__).parent / "data" / "films.csv"
COLUMNS = tuple(name for name in Film.__struct_fields__ if name != "line")
_SHOWN = ("repaired", "refused", "dropped", "doubtful")

Progress = Callable[[int, int], None]
"""Hears how many of how many rows are written."""


class IngestReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an ingest did. `notes` has an entry for every row that was not plain."""

    source: str
    rows: int
    titles: int
    windows: int
    absent: int
    """Titles of earlier ingests that this list does not have; they were left as they are."""
    generation: int
    duration_s: float
    notes: tuple[Note, ...]

    def count(self, action: str, what: str = "") -> int:
        """Notes of one action whose `what` begins so."""
        return sum(n.action == action and n.what.startswith(what) for n in self.notes)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: every note included."""
        return {**msgspec.to_builtins(self), "actions": dict(self._actions())}

    def as_text(self, *, every_note: bool = False) -> str:
        """A summary, then the rows repaired, refused or doubtful (or every note) and why."""
        head = (
            f"{self.source}: {self.rows:,} rows read, {self.titles:,} titles and"
            f" {self.windows:,} licence windows written in {self.duration_s:.1f} s"
            f" (generation {self.generation})"
        )
        counts = [f"  {count:>6,}  {action}" for action, count in self._actions()]
        kept = [f"  {self.absent:>6,}  titles of earlier ingests kept"] if self.absent else []
        notes = [
            f"  line {n.line}: {n.title}: {n.action} {n.what}: {n.why}"
            for n in self.notes
            if every_note or n.action in _SHOWN
        ]
        return "\n".join([head, *counts, *kept, *notes])

    def _actions(self) -> list[tuple[str, int]]:
        return sorted(Counter(_heading(note) for note in self.notes).items())


def _heading(note: Note) -> str:
    if note.action == "filled":
        return "filled genre" if note.what.startswith("genre") else "filled running time"
    return {"assumed": "assumed maturity", "repaired": "repaired title"}.get(
        note.action, note.action
    )


async def ingest(
    source: Path,
    catalog_url: str,
    rights_url: str,
    clock: Clock,
    progress: Progress = lambda done, total: None,
) -> IngestReport:
    """Reads `source` and writes it; `ConfigurationFault` when the file is broken as a whole."""
    started = clock.monotonic()
    films = read_films(source)
    made = titles_from(films)
    if not made.titles:
        raise _broken(source, "none of its rows is usable: " + made.notes[0].why)
    windows = [w for title in made.titles for w in default_windows(title.title_id, title.votes)]
    total = len(windows) + len(made.titles)
    async with _opened(rights_url, RIGHTS_ROWS) as rights:
        await write_windows(rights, windows, lambda done: progress(done, total))
    async with _opened(catalog_url, CATALOG_ROWS) as catalog:
        absent = await _absent(catalog, made.titles)
        generation = await write_titles(
            catalog, made.titles, progress=lambda done: progress(len(windows) + done, total)
        )
    return IngestReport(
        source=source.name,
        rows=len(films),
        titles=len(made.titles),
        windows=len(windows),
        absent=absent,
        generation=generation,
        duration_s=clock.monotonic() - started,
        notes=tuple(made.notes),
    )


def read_films(source: Path) -> list[Film]:
    """Every row of the file as text; `ConfigurationFault` says what is wrong with the file."""
    try:
        text = source.read_bytes().decode("utf-8-sig")
    except OSError as fault:
        raise _broken(source, f"it cannot be read: {fault.strerror}") from None
    except UnicodeDecodeError as fault:
        raise _broken(source, f"it is not UTF-8 (byte {fault.start}); save it as UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, None)
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as fault:
        raise _broken(source, f"line {reader.line_num} is not CSV: {fault}") from None
    columns = _columns(source, header)
    if not rows:
        raise _broken(source, "it has no rows")
    return [_film(source, line, row, columns) for line, row in rows]


def _columns(source: Path, header: Sequence[str] | None) -> list[str]:
    if not header:
        raise _broken(source, "it is empty")
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise _broken(
            source, f"column {', '.join(missing)} is missing; needed are {', '.join(COLUMNS)}"
        )
    return list(header)


def _film(source: Path, line: int, row: Sequence[str], columns: Sequence[str]) -> Film:
    if len(row) != len(columns):
        raise _broken(source, f"line {line} has {len(row)} values where {len(columns)} belong")
    values = dict(zip(columns, row, strict=True))
    kept = {name: values[name] for name in COLUMNS}
    plain = {name: value if name == "title" else value.strip() for name, value in kept.items()}
    return Film(line=line, **plain)


def _broken(source: Path, why: str) -> ConfigurationFault:
    return ConfigurationFault([f"{source}: {why}; nothing was changed"], what="the film list")


async def _absent(catalog: Tables, titles: Sequence[Title]) -> int:
    present = {title.title_id for title in titles}
    return sum([1 async for title in catalog.scan(Title) if title.title_id not in present])


@asynccontextmanager
async def _opened(url: str, rows: Sequence[type[msgspec.Struct]]) -> AsyncIterator[Tables]:
    tables = open_tables(url)
    try:
        await tables.prepare(*rows)
        yield tables
    finally:
        await tables.close()
