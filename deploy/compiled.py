"""The hot path as machine code, where there is a build of exactly these sources.

`deploy.compiling` makes builds, in the environment and never among the sources. A build knows the
digest of every source that it was made of; `use` serves one only while all of them still are what
they were. So an edit is live at the next start, compiled or not, and two checkouts may share an
environment. Standard library only, and nothing of ours: this must come before every other import.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import json
import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUILDS = Path(sys.prefix) / "lib" / "stagedoor-compiled"
MANIFEST = "build.json"
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))
GROUP = "stagedoor_hot"
"""What mypyc calls the library that all the modules share."""

MODULES = (
    "chassis.discovery.balancer",
    "chassis.discovery.standing",
    "chassis.http.connection",
    "chassis.http.framing",
    "chassis.http.heads",
    "chassis.http.pool",
    "chassis.http.turn",
    "chassis.telemetry.metrics",
    "gateway.admission.inflight",
    "gateway.answering",
    "gateway.attempting",
    "gateway.budget",
    "gateway.context",
    "gateway.core",
    "gateway.edge.boundary",
    "gateway.edge.connection",
    "gateway.edge.expiry",
    "gateway.edge.fields",
    "gateway.edge.listener",
    "gateway.edge.reader",
    "gateway.edge.request",
    "gateway.edge.request_line",
    "gateway.edge.response",
    "gateway.edge.waits",
    "gateway.exchange",
    "gateway.observer",
    "gateway.origins",
    "gateway.quantile",
    "gateway.racing",
    "gateway.ready",
    "gateway.retrying",
    "gateway.rules.match",
    "gateway.rules.paths",
    "gateway.rules.route",
    "gateway.traces",
    "gateway.upstream",
)
"""What every request passes. None of them may be subclassed by what is not among them, nor raise
`from` a cause: mypyc forgets it."""


class Finder(MetaPathFinder):
    """Finds the modules of one build; everything else is left to Python's own finders."""

    def __init__(self, build: Path, names: Iterable[str]) -> None:
        self._build = build
        self._names = frozenset(names)

    def __repr__(self) -> str:
        return f"Finder({self._build.name}, {len(self._names)} modules)"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._names:
            return None
        return importlib.util.spec_from_file_location(fullname, library(self._build, fullname))


def library(build: Path, name: str) -> Path:
    """Where a build keeps the module `name`."""
    return build.joinpath(*name.split(".")).with_suffix(SUFFIX)


def use(environ: Mapping[str, str] = os.environ, builds: Path = BUILDS, root: Path = ROOT) -> bool:
    """From here on the modules come from a build, if there is one; STAGEDOOR_PURE=1: never.

    Call it first of all: what has been imported stays what it is.
    """
    if any(isinstance(finder, Finder) for finder in sys.meta_path):
        return True
    build = None if is_pure(environ) else found(builds, root)
    if build is not None:
        sys.meta_path.insert(0, Finder(build, (*MODULES, f"{GROUP}__mypyc")))
    return build is not None


def is_pure(environ: Mapping[str, str]) -> bool:
    """Whether this process was told to run as it is written."""
    return environ.get("STAGEDOOR_PURE", "") not in ("", "0")


def found(builds: Path = BUILDS, root: Path = ROOT) -> Path | None:
    """The newest build of what stands under `root`."""
    if not builds.is_dir():
        return None
    made = sorted(builds.glob(f"*/{MANIFEST}"), key=lambda file: -file.stat().st_mtime_ns)
    return next((file.parent for file in made if _fits(file, root)), None)


def manifest(sources: Iterable[Path], root: Path) -> dict[str, Any]:
    """What a build is made of: for which interpreter, of which modules, of which bytes."""
    digests = {str(file.relative_to(root)): digest(file) for file in sorted(sources)}
    return {"interpreter": SUFFIX, "modules": list(MODULES), "sources": digests}


def _fits(file: Path, root: Path) -> bool:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return bool(kept == manifest([root / name for name in kept["sources"]], root))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
