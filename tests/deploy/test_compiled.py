"""The hot path as machine code: which build is served, and what may be compiled."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.compiled import MANIFEST, MODULES, ROOT, Finder, found, is_pure, library, manifest
from deploy.compiling import Impossible, closure, compiler

PRODUCT = ("chassis", "gateway", "play_api", "microservices", "stream_pipeline", "deploy")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sources; one build of them."""
    for name in ("hot.py", "constants.py"):
        (tmp_path / name).write_text(f"'''{name}'''\n")
    return tmp_path


def build(root: Path, name: str = "one") -> Path:
    made = root / "builds" / name
    made.mkdir(parents=True)
    told = manifest([root / "hot.py", root / "constants.py"], root)
    (made / MANIFEST).write_text(json.dumps(told))
    return made


def test_a_build_serves_the_sources_it_was_made_of(root: Path) -> None:
    made = build(root)
    assert found(root / "builds", root) == made


@pytest.mark.parametrize("changed", ["hot.py", "constants.py"])
def test_an_edit_puts_a_build_out_of_use_until_it_is_undone(root: Path, changed: str) -> None:
    made = build(root)
    before = (root / changed).read_bytes()
    (root / changed).write_bytes(before + b"x = 1\n")
    assert found(root / "builds", root) is None
    (root / changed).write_bytes(before)
    assert found(root / "builds", root) == made


def test_a_source_that_is_gone_puts_it_out_of_use_too(root: Path) -> None:
    build(root)
    (root / "constants.py").unlink()
    assert found(root / "builds", root) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"sources": {}}', "\udc80"])
def test_what_is_no_manifest_is_no_build(root: Path, text: str) -> None:
    (build(root) / MANIFEST).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert found(root / "builds", root) is None


def test_a_build_for_another_interpreter_is_not_served(root: Path) -> None:
    file = build(root) / MANIFEST
    file.write_text(json.dumps({**json.loads(file.read_text()), "interpreter": ".cpython-39.so"}))
    assert found(root / "builds", root) is None


def test_the_newest_build_wins(root: Path) -> None:
    old, new = build(root, "old"), build(root, "new")
    os.utime(old / MANIFEST, (1, 1))
    assert found(root / "builds", root) == new


def test_without_builds_there_is_none(tmp_path: Path) -> None:
    assert found(tmp_path / "nowhere") is None


@pytest.mark.parametrize(("value", "pure"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_the_environment_may_ask_for_the_sources(value: str, pure: bool) -> None:
    assert is_pure({"STAGEDOOR_PURE": value}) is pure


def test_the_finder_finds_its_modules_and_no_others(tmp_path: Path) -> None:
    finder = Finder(tmp_path, ["gateway.exchange"])
    spec = finder.find_spec("gateway.exchange", None)
    assert spec is not None and spec.origin == str(library(tmp_path, "gateway.exchange"))
    assert finder.find_spec("gateway.app", None) is None


def test_what_a_module_imports_belongs_to_its_build() -> None:
    files = {str(file.relative_to(ROOT)) for file in closure(["gateway.edge.fields"])}
    assert {"gateway/edge/fields.py", "chassis/http/framing.py", "chassis/errors.py"} <= files
    assert {"chassis/identity/__init__.py", "chassis/__init__.py"} <= files
    assert not any(file.startswith("deploy/") for file in files)


def test_without_a_compiler_it_is_said_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(Impossible, match="no C compiler"):
        compiler()


def test_without_a_compiler_nothing_fails_and_a_pipe_stays_quiet(tmp_path: Path) -> None:
    """As where it is called first of all, on a machine without one."""
    code = "import pathlib; from deploy.compiling import main; main(pathlib.Path('nowhere'))"
    environ = {key: value for key, value in os.environ.items() if key != "CC"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# -- what mypyc cannot do


def parsed() -> Iterator[tuple[str, ast.Module]]:
    for package in PRODUCT:
        for file in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            yield name, ast.parse(file.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_no_compiled_module_raises_from_a_cause() -> None:
    """mypyc forgets the cause. `from None` hides nothing that matters; set `__cause__` instead."""
    lost = [
        f"{name}:{node.lineno}"
        for name, tree in parsed()
        if name in MODULES
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and node.cause is not None and not _is_none(node.cause)
    ]
    assert lost == []


def _is_none(node: ast.expr) -> bool:
    if isinstance(node, ast.IfExp):
        return _is_none(node.body) and _is_none(node.orelse)
    return isinstance(node, ast.Constant) and node.value is None


@pytest.mark.slow
def test_a_class_and_its_own_bases_are_compiled_or_none_of_them() -> None:
    """mypyc refuses the one way when it compiles, Python the other when it makes the class."""
    torn = []
    for name, tree in parsed():
        imported = {
            alias.asname or alias.name: node.module or ""
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in ast.walk(tree):
            for base in node.bases if isinstance(node, ast.ClassDef) else ():
                origin = imported.get(base.id, "") if isinstance(base, ast.Name) else ""
                ours = origin.partition(".")[0] in PRODUCT
                if ours and (origin in MODULES) is not (name in MODULES):
                    torn.append(f"{name}.{node.name} on {origin}")
    assert torn == []


@pytest.mark.slow
def test_every_compiled_module_is_there() -> None:
    names = {name for name, _ in parsed()}
    assert set(MODULES) <= names and list(MODULES) == sorted(MODULES)
