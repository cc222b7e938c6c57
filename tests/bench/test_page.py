"""The page of measurements: made of kept values, whichever of them were measured again."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from tests.bench.__main__ import NAMES, Failed, keep, machine, page, run, tables


def test_records_become_a_table_and_the_rest_lines() -> None:
    value = {
        "bench": "gateway",
        "seconds": 5,
        "cost": {"cpu": {"us": 12.3456}},
        "rows": [{"name": "ours", "rate": 1234.5}, {"name": "nginx", "memory": "3 MB"}],
    }
    assert list(tables(value)) == [
        "- seconds: 5",
        "- cost.cpu.us: 12.35",
        "",
        "| name | rate | memory |",
        "|---|---|---|",
        "| ours | 1234.5 |  |",
        "| nginx |  | 3 MB |",
        "",
    ]


def test_a_bar_in_a_text_does_not_break_its_row() -> None:
    lines = list(tables({"rows": [{"what": "a|b"}]}))
    assert lines[3] == r"| a\|b |"


def test_the_page_holds_what_is_kept_in_its_order(tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    keep("events", {"a": 1}, folder)
    keep("start", {"b": 2}, folder)
    text = page(folder)
    assert text.index("## start") < text.index("- b: 2") < text.index("## events")
    assert "`make bench BENCH=start`" in text and machine() in text
    keep("start", {"b": 3}, folder)
    assert "- b: 3" in page(folder) and "- a: 1" in page(folder)


def test_a_kept_value_says_when_and_where_it_was_measured(tmp_path: Path) -> None:
    keep("start", {"b": 2}, tmp_path)
    kept = json.loads((tmp_path / "start.json").read_text())
    assert kept["value"] == {"b": 2} and "cores" in kept["machine"]
    assert len(kept["measured"]) == len("2026-01-01")


def test_a_bench_that_is_not_there_fails_alone() -> None:
    with pytest.raises(Failed, match="nowhere"):
        run("nowhere")


@pytest.mark.parametrize("name", NAMES)
def test_every_bench_that_is_named_is_there(name: str) -> None:
    importlib.import_module(f"tests.bench.bench_{name}")
