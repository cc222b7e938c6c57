"""The catalogue of a system: filled once, and again only when told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from chassis.clock import ManualClock
from chassis.errors import ConfigurationFault
from chassis.service import ProcessSettings
from chassis.storage import open_tables
from deploy.catalogue import fill, fill_when_empty
from deploy.ingest import COLUMNS
from microservices.catalog.model import Title
from microservices.catalog.store import ROWS

CLOCK = ManualClock()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path


def settings(root: Path) -> ProcessSettings:
    return ProcessSettings(home=root)


def films(root: Path, *names: str) -> Path:
    source = root / "films.csv"
    rows = [f"{name},1995-12-15,R,170,Action,,Somebody,8.2,200000" for name in names]
    source.write_text("\n".join([",".join(COLUMNS), *rows]))
    return source


async def names(root: Path) -> list[str]:
    tables = open_tables(f"sqlite://{root}/data/catalog.db")
    await tables.prepare(*ROWS)
    found = [title.name async for title in tables.scan(Title)]
    await tables.close()
    return sorted(found)


async def test_the_first_start_fills_it_and_the_next_leaves_it_alone(root: Path) -> None:
    said: list[str] = []
    await fill_when_empty(settings(root), CLOCK, said.append)
    filled = await names(root)
    assert len(filled) > 1000 and "titles from" in said[0]
    await fill_when_empty(settings(root), CLOCK, said.append)
    assert len(said) == 1 and await names(root) == filled


async def test_a_list_of_ones_own_is_kept_at_the_next_start(root: Path) -> None:
    await fill(settings(root), films(root, "Heat", "Ronin"), CLOCK, lambda done: None)
    await fill_when_empty(settings(root), CLOCK, lambda text: None)
    assert await names(root) == ["Heat", "Ronin"]


async def test_progress_is_a_share_that_ends_at_one(root: Path) -> None:
    heard: list[float] = []
    await fill(settings(root), films(root, "Heat"), CLOCK, heard.append)
    assert heard == sorted(heard) and heard[-1] == 1.0


async def test_a_list_that_cannot_be_read_is_named_and_fills_nothing(root: Path) -> None:
    with pytest.raises(ConfigurationFault, match=r"missing\.csv"):
        await fill(settings(root), root / "missing.csv", CLOCK, lambda done: None)
    assert await names(root) == []
