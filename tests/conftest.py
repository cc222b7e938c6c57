"""On what tests run, in which order, and what the whole run tells at its end."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

from deploy.compiled import use

use()  # before anything of ours is imported: on the compiled hot path, where there is one

settings.register_profile("fast", max_examples=20)
if os.environ.get("STAGEDOOR_TEST_FAST"):
    settings.load_profile("fast")

# A run in the background of a shell is deaf to interrupts, and so would be all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Servers on Java live for a minute here: most of that would be spent on optimising what then ends.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

LONGEST = "tests/system/test_real.py"


def pytest_configure() -> None:
    from tests.support import real

    real.begin_session()  # in the process that starts the workers, or else alone


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, so that one worker goes through it while others have the rest."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests measured on their way: their property `measured`."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "measured":
                terminalreporter.write_line(f"measured: {value}")
