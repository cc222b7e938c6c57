"""On what tests run, in which order, and what the whole run tells at its end."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from hypothesis import settings

from deploy.compiled import use

use()  # before anything of ours is imported: on the compiled hot path, where there is one

# An example's own deadline would measure the machine.
settings.register_profile("whole", deadline=None)
settings.register_profile("fast", max_examples=20, deadline=None)
settings.load_profile("fast" if os.environ.get("STAGEDOOR_TEST_FAST") else "whole")

# A run in the background of a shell is deaf to interrupts, and so would be all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Servers on Java live for a minute here: most of that would be spent on optimising what then ends.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

LONGEST = (
    "tests/system/test_real.py",
    "tests/conformance/registry/",
    "tests/chassis/events/",
    "tests/system/",
    "tests/deploy/",
    "tests/chassis/storage/",
    "tests/gateway/test_compiled.py",
    "tests/stream_pipeline/",
)
"""Where tests take long. The whole system under load comes first, beside what mostly waits."""


def pytest_configure() -> None:
    from tests.support import real

    real.begin_session()  # in the process that starts the workers, or else alone


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker is left alone with one at the end."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    ranks = (rank for rank, long in enumerate(LONGEST) if item.nodeid.startswith(long))
    return next(ranks, len(LONGEST))


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    keyspaces = sys.modules.get("tests.support.keyspaces")
    if keyspaces is not None and (nextitem is None or nextitem.path != item.path):
        keyspaces.let_go()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests measured on their way: their property `measured`."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "measured":
                terminalreporter.write_line(f"measured: {value}")
