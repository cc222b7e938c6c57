from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from chassis.clock import ManualClock
from chassis.contracts.titles import RightsQuery, Window
from chassis.errors import ConfigurationFault
from chassis.storage import open_tables
from chassis.storage.generations import Generation, generation
from deploy.ingest import COLUMNS, FILMS, IngestReport, ingest
from microservices.catalog.model import Title
from microservices.catalog.store import GENERATION
from microservices.rights.model import decide
from microservices.rights.store import WindowRow

NOW = 1_700_000_000.0
HEADER = ",".join(COLUMNS)
ROW = "Heat,1995-12-15,R,170,Action,,Michael Mann,8.2,200000"


class Shelf:
    """The two stores of one ingest."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.catalog = f"sqlite://{home}/catalog.db"
        self.rights = f"sqlite://{home}/rights.db"
        self.progress: list[tuple[int, int]] = []

    async def ingest(self, source: Path) -> IngestReport:
        return await ingest(
            source,
            self.catalog,
            self.rights,
            ManualClock(),
            lambda done, total: self.progress.append((done, total)),
        )

    async def ingest_text(self, *lines: str) -> IngestReport:
        return await self.ingest(self.file("\n".join(lines).encode()))

    def file(self, body: bytes) -> Path:
        source = self.home / "source.csv"
        source.write_bytes(body)
        return source

    async def titles(self) -> dict[str, Title]:
        tables = open_tables(self.catalog)
        await tables.prepare(Title)
        found = {title.title_id: title async for title in tables.scan(Title)}
        await tables.close()
        return found

    async def windows(self) -> dict[str, dict[str, Window]]:
        tables = open_tables(self.rights)
        await tables.prepare(WindowRow)
        found: dict[str, dict[str, Window]] = {}
        async for row in tables.scan(WindowRow):
            found.setdefault(row.title_id, {})[row.territory] = row.window()
        await tables.close()
        return found

    async def generation(self) -> int:
        tables = open_tables(self.catalog)
        await tables.prepare(Generation)
        number = await generation(tables, GENERATION)
        await tables.close()
        return number


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


async def test_the_real_list_is_ingested_and_every_row_accounted_for(shelf: Shelf) -> None:
    report = await shelf.ingest(FILMS)
    assert (report.rows, report.titles, report.count("refused")) == (3_200, 3_200, 0)
    assert report.count("repaired") == 24
    assert report.count("filled", "genre") == 275
    assert report.count("filled") - report.count("filled", "genre") == 1_992
    assert report.count("assumed") == 700
    assert report.count("remake") == 24
    assert report.count("doubtful") == 8
    assert report.count("dropped") == 0
    titles = await shelf.titles()
    assert len(titles) == 3_200
    assert sum(title.minutes_filled for title in titles.values()) == 1_992
    assert titles["leon-1994"].name == "Léon"
    assert titles["alien3-1992"].name == "Alien³"
    assert {"king-kong-1976", "king-kong-2005"} <= set(titles)
    assert [t for t in titles.values() if not t.protected and t.year >= 1929] == []


async def test_what_it_says_names_the_repaired_rows_and_why(shelf: Shelf) -> None:
    report = await shelf.ingest(FILMS)
    text = report.as_text()
    assert "3,200 rows read, 3,200 titles" in text
    assert "Léon: repaired title: 'LÈon': cp1252 was read as Mac Roman" in text
    assert "The Barbarians: repaired title: 'Barbarians, The': the article stood at the end" in text
    assert len(text.splitlines()) < 60
    assert len(report.as_text(every_note=True).splitlines()) > 3_000
    told = msgspec.json.decode(msgspec.json.encode(report.as_dict()))
    assert told["actions"]["filled running time"] == 1_992
    assert len(told["notes"]) == len(report.notes)


async def test_the_windows_of_the_real_list_are_mostly_open(shelf: Shelf) -> None:
    await shelf.ingest(FILMS)
    titles, windows = await shelf.titles(), await shelf.windows()
    asked = RightsQuery(title_id="", country="US", plan="standard", device_type="tv")
    told = {one: decide(windows[one], asked, NOW).denial for one in titles}
    shares = Counter(told.values())
    assert 0.80 < shares[None] / 3_200 < 0.92
    assert all(shares[denial] > 50 for denial in ("region", "window_ended", "not_entitled"))
    best = sorted(titles, key=lambda one: -titles[one].votes)[:200]
    assert sum(told[one] is None for one in best) >= 180


async def test_progress_rises_to_the_end(shelf: Shelf) -> None:
    report = await shelf.ingest(FILMS)
    done = [step for step, _ in shelf.progress]
    assert done == sorted(done)
    assert shelf.progress[-1] == (report.titles + report.windows,) * 2


@pytest.mark.slow
async def test_ingesting_again_changes_nothing_but_the_generation(shelf: Shelf) -> None:
    await shelf.ingest(FILMS)
    before = await shelf.titles(), await shelf.windows()
    again = await shelf.ingest(FILMS)
    assert (await shelf.titles(), await shelf.windows()) == before
    assert (again.generation, again.absent) == (2, 0)


@pytest.mark.slow
async def test_an_interrupted_ingest_is_not_announced_and_the_next_one_completes_it(
    shelf: Shelf,
) -> None:
    def stop(done: int, total: int) -> None:
        if done > total - 1_000:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        await ingest(FILMS, shelf.catalog, shelf.rights, ManualClock(), stop)
    assert 0 < len(await shelf.titles()) < 3_200
    assert await shelf.generation() == 0
    await shelf.ingest(FILMS)
    assert (len(await shelf.titles()), await shelf.generation()) == (3_200, 1)


async def test_a_list_that_lacks_earlier_titles_leaves_them_and_says_so(shelf: Shelf) -> None:
    await shelf.ingest_text(HEADER, ROW, "Other,2000-01-01,R,100,,,,,")
    report = await shelf.ingest_text(HEADER, ROW)
    assert report.absent == 1
    assert "1  titles of earlier ingests kept" in report.as_text()
    assert set(await shelf.titles()) == {"heat-1995", "other-2000"}


async def test_columns_may_come_in_any_order_with_others_between(shelf: Shelf) -> None:
    columns = ["extra", *reversed(COLUMNS)]
    values = dict(zip(COLUMNS, next(csv.reader([ROW])), strict=True))
    line = ",".join(values.get(name, "x") for name in columns)
    await shelf.ingest_text("\ufeff" + ",".join(columns), line, "")
    assert (await shelf.titles())["heat-1995"].minutes == 170


async def test_unusable_rows_are_refused_and_the_rest_is_taken(shelf: Shelf) -> None:
    report = await shelf.ingest_text(HEADER, ROW, ROW, "Bad,someday,R,100,,,,,")
    assert (report.titles, report.count("refused")) == (1, 2)
    assert "line 4: Bad: refused released 'someday'" in report.as_text()


BROKEN = {
    "it is empty": b"",
    "it has no rows": HEADER.encode(),
    "column rating is missing": HEADER.replace("rating,", "").encode() + b"\nx",
    "it is not UTF-8 (byte": HEADER.encode() + b"\nL\xe9on,1994-01-01,,,,,,,",
    "line 2 has 3 values where 9 belong": HEADER.encode() + b"\na,b,c",
    "is not CSV": HEADER.encode() + b'\n"unclosed,1994-01-01,,,,,,,',
    "none of its rows is usable": HEADER.encode() + b"\n,1994-01-01,,,,,,,",
}


@pytest.mark.parametrize("why", BROKEN)
async def test_a_broken_file_is_refused_whole_and_changes_nothing(shelf: Shelf, why: str) -> None:
    await shelf.ingest_text(HEADER, ROW)
    before = await shelf.titles(), await shelf.windows(), await shelf.generation()
    with pytest.raises(ConfigurationFault) as caught:
        await shelf.ingest(shelf.file(BROKEN[why]))
    assert why in str(caught.value)
    assert "nothing was changed" in str(caught.value)
    assert (await shelf.titles(), await shelf.windows(), await shelf.generation()) == before


async def test_a_file_that_is_not_there_is_said(shelf: Shelf) -> None:
    with pytest.raises(ConfigurationFault, match="cannot be read: No such file"):
        await shelf.ingest(shelf.home / "nowhere.csv")
