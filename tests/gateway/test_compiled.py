"""The edge keeps its promises as it is written and as machine code alike.

Where there is a build, the whole run is on it; then the edge's own tests run once more, in a child,
on the sources.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.compiled import MODULES, is_pure
from deploy.compiling import Impossible, compiler
from gateway.edge import connection
from gateway.worker import version

ROOT = Path(__file__).resolve().parents[2]
EDGE = ROOT / "tests" / "gateway" / "edge"
ELSEWHERE = {"test_crowd.py", "test_frames.py", "test_proxy_protocol.py", "test_tls.py"}
"""They take long, and what they look for is the same either way."""

IS_COMPILED = not str(connection.__file__).endswith(".py")


def test_where_there_is_a_compiler_ci_runs_compiled() -> None:
    try:
        compiler()
    except Impossible as reason:
        pytest.skip(f"nothing can be compiled here: {reason}")
    if os.environ.get("CI") != "true" or is_pure(os.environ):
        pytest.skip("only CI has to")
    assert IS_COMPILED


def test_all_of_the_hot_path_is_compiled_or_none() -> None:
    loaded = {name: str(sys.modules[name].__file__) for name in MODULES if name in sys.modules}
    written = {name for name, file in loaded.items() if file.endswith(".py")}
    assert written == (set() if IS_COMPILED else set(loaded))


def test_the_version_tells_which() -> None:
    assert version().endswith("+compiled" if IS_COMPILED else "+pure")


@pytest.mark.slow
def test_the_edge_passes_its_tests_on_the_sources_too() -> None:
    if not IS_COMPILED:
        pytest.skip("this run is on the sources already")
    tests = sorted(str(file) for file in EDGE.glob("test_*.py") if file.name not in ELSEWHERE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        env={**os.environ, "STAGEDOOR_PURE": "1", "STAGEDOOR_TEST_FAST": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:]
