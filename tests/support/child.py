"""What the zygote of a test forks: it does what `FATE` says."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from chassis.errors import ConfigurationFault, SchemaFault


def run_process(environ: Mapping[str, str]) -> None:
    kind, _, detail = environ.get("FATE", "waits").partition(":")
    globals()[f"_{kind}"](detail)


def _waits(_: str) -> None:
    """Until SIGTERM, which ends it with status 0 after noting so in the file of that name."""
    signal.signal(signal.SIGTERM, _leave)
    _mark("begun")
    signal.pause()


def _leave(number: int, frame: object) -> None:
    _mark("left")
    raise SystemExit


def _stubborn(_: str) -> None:
    """Until SIGKILL."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _mark("begun")
    while True:
        signal.pause()


def _exits(status: str) -> None:
    sys.exit(int(status))


def _prints(text: str) -> None:
    print(text)  # noqa: T201


def _says(text: str) -> None:
    sys.exit(text)


def _breaks(text: str) -> None:
    raise RuntimeError(text)


def _misconfigured(text: str) -> None:
    raise ConfigurationFault([text])


def _outdated(text: str) -> None:
    raise SchemaFault(text)


def _outgrows(folder: str) -> None:
    """Loads what was written after the zygote had begun, and finds that it does not fit."""
    sys.path.insert(0, folder)
    importlib.import_module("newer").missing  # noqa: B018  # it raises


def _once(file: str) -> None:
    """Fails the first time, then waits."""
    if Path(file).exists():
        _waits("")
    Path(file).touch()
    sys.exit(1)


def _tells(_: str) -> None:
    """Prints what it is: its session, its open files, its signals."""
    files = sorted(int(one) for one in os.listdir("/proc/self/fd"))  # noqa: PTH208
    default = signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    print(os.getpid() == os.getsid(0), len(files), default)  # noqa: T201
    _waits("")


def _mark(what: str) -> None:
    folder, instance = os.environ["MARKS"], os.environ["STAGEDOOR_INSTANCE"]
    with (Path(folder) / what).open("a", encoding="utf-8") as file:
        file.write(f"{instance}\n")
