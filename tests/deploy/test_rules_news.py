"""What the terminal says of an edited rules file, heard from a real admin port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from chassis.clock import SYSTEM
from chassis.discovery import Instance, background
from chassis.http.client import Client
from chassis.http.serving import Listener, bind
from chassis.telemetry import Telemetry
from deploy.rules_news import Counters, RulesNews, Told, news
from gateway.admin import admin_app
from gateway.rules.live import LiveRules

RULES = "rules:\n- {name: all, forward: a}\nclusters:\n  a: {service: a}\n"


class Idle:
    """A gateway of which only the rules matter."""

    def ready(self) -> bool:
        return True

    def clusters(self) -> list[dict[str, object]]:
        return []

    def drain(self) -> None:
        """Nothing to drain."""


class Terminal:
    """Shows what was said; a test edits the rules and waits for what it must show."""

    def __init__(self, rules: Path) -> None:
        self.rules = rules
        self._said: asyncio.Queue[str] = asyncio.Queue()
        self.say = self._said.put_nowait

    async def shows(self, what: str, patience_s: float = 10) -> str:
        """The first that has `what` in it: news of an earlier edit may still be on their way."""
        async with asyncio.timeout(patience_s):
            while what not in (said := await self._said.get()):
                pass
            return said

    async def after(self, added: str, what: str) -> str:
        """What is said of `added` to the rules, with `what` in it."""
        self.rules.write_text(self.rules.read_text() + added)
        return await self.shows(what)

    async def looks(self) -> None:
        """Until edits are followed: one made before the first look is not news."""
        for _ in range(20):
            with suppress(TimeoutError):
                self.rules.write_text(self.rules.read_text() + "# a comment\n")
                await self.shows("live", patience_s=1)
                return
        raise AssertionError("edits are not followed")


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    live = LiveRules(file, tmp_path / "state", SYSTEM)
    await live.start()
    telemetry = Telemetry("gateway", "gateway-1", SYSTEM, log_file=tmp_path / "log.jsonl")
    admin = Listener(admin_app(live, telemetry, Idle(), "1"), bind("127.0.0.1", 0))
    await admin.start()
    gateway = Instance("gateway-1", "gateway", "127.0.0.1", 1, {"admin": f"127.0.0.1:{admin.port}"})
    shown, client = Terminal(file), Client()
    follower = RulesNews(file, lambda: [gateway], client, SYSTEM, shown.say)
    task = background.start(follower.run(), "news")
    await shown.looks()
    yield shown
    await background.stop(task)
    await client.close()
    await admin.drain(0.1)
    await live.close()
    telemetry.close()


async def test_an_edit_is_said_to_be_live_with_its_warnings(terminal: Terminal) -> None:
    first = await terminal.after("# another comment\n", "live")
    assert first.startswith("rules: live (version ") and "\n" not in first
    second = await terminal.after("  spare: {service: b}\n", "'spare'")
    assert "live" in second and first not in second
    assert "warning: cluster 'spare' is used by no rule" in second


async def test_a_refused_edit_is_said_with_every_fault_and_what_goes_on(terminal: Terminal) -> None:
    said = await terminal.after("  spare: {service: 7}\n  other: {servise: b}\n", "'spare'")
    assert "refused, the last good version goes on" in said
    assert "'servise', did you mean 'service'?" in said


async def test_an_edit_that_is_taken_back_is_said_to_be_live_again(terminal: Terminal) -> None:
    before = terminal.rules.read_text()
    await terminal.after("  spare: {service: 7}\n", "refused")
    terminal.rules.write_text(before)
    assert "refused" not in await terminal.shows("live")


async def test_each_of_two_edits_in_a_row_is_told_however_late_one_looks(
    terminal: Terminal,
) -> None:
    """The gateway may have judged both, or only the first, when it is asked."""
    for n in range(5):
        terminal.rules.write_text(f"{RULES}# {n}\n")
        await asyncio.sleep(0.05 * n)
        assert "'servise'" in await terminal.after(f"  other{n}: {{servise: b}}\n", f"other{n}")


def told(judged: str, changes: int, refused: int) -> Told:
    return Told(changes, "good", judged, Counters(changes, refused))


def test_what_was_told_before_is_no_news() -> None:
    first = told("good", 1, 0)
    assert news(first, first) is None
    assert "refused" in str(news(first, told("bad", 1, 1)))
    assert "live" in str(news(told("bad", 1, 3), told("good", 2, 3)))
    assert "live" in str(news(told("bad", 1, 1), told("good", 1, 1)))
