"""docs/gateway.md says what the gateway takes, leaves out and counts."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import yaml

from chassis.clock import SYSTEM
from gateway.edge.arrivals import Counts
from gateway.edge.fields import FORWARDING, OURS
from gateway.edge.limits import Limits
from gateway.edge.listen import listens
from gateway.edge.peer import NOBODY
from gateway.rules.build import judge

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "gateway.md").read_text(encoding="utf-8")


def test_every_limit_is_listed_with_its_default() -> None:
    table = TEXT.partition("<!-- limits -->")[2].partition("<!-- /limits -->")[0]
    said = dict(re.findall(r"`([a-z_]+)(?:=([0-9.]+))?`", table))
    for name, default in said.items():
        known = getattr(Limits(), name)
        assert default == ("" if known is None else str(known)), name
        (one,) = listens(f"tcp://127.0.0.1:1?{name}=7", Limits(), NOBODY)
        assert getattr(one.limits, name) == 7
    whole = {"stall_s", "stream_idle_s", "window"}
    assert {field.name for field in msgspec.structs.fields(Limits)} - whole == said.keys()


def test_every_way_to_listen_that_is_shown_is_understood() -> None:
    shown = re.findall(r"(?<=[`'])(?:(?:tls|unix)://[^`'…]+|[\[\]0-9.:]+:80\d\d)(?=[`'])", TEXT)
    assert len(shown) >= 5
    for text in shown:
        listens(text, Limits(), NOBODY)


def test_every_field_that_is_left_out_is_named() -> None:
    for name in (*FORWARDING, *OURS):
        text = name.decode()
        assert f"`{text}`" in TEXT or text.startswith(("x-forwarded-", "x-original-f")), text


def test_every_result_of_a_connection_is_explained() -> None:
    (row,) = re.findall(r"\| `gateway_connections_total` \|.*", TEXT)
    for name in Counts.__slots__:
        assert f"`{name}`" in row


def test_the_rules_that_are_shown_have_no_faults() -> None:
    (first,) = re.findall(r"<<'RULES'\n(.*?)\nRULES", TEXT, re.DOTALL)
    assert list(judge(first.encode(), "first", SYSTEM)) == []
    (second,) = re.findall(r"  ```yaml\n(.*?)  ```", TEXT, re.DOTALL)
    whole = {**yaml.safe_load(first), **yaml.safe_load(second)}
    assert list(judge(yaml.safe_dump(whole).encode(), "second", SYSTEM)) == []
