"""Compiles the hot path once, where there is a C compiler: `python -m deploy.compiling`.

Same sources, same checks: mypyc (part of mypy) turns the modules of `compiled.MODULES` into C by
their type annotations. Where a compiler, Python's headers or mypyc cannot be had, or anything goes
wrong, one line says so and everything runs as it is written.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from deploy import compiled
from deploy.compiled import BUILDS, GROUP, MODULES, ROOT

INSTALL = ROOT / "requirements" / "install.sh"
LOCK = ROOT / "requirements" / "build.lock"
KEPT = 3
OPTIMISED = ("-O1", "-g0", "-w")
"""-O2 takes twice the time to compile and nothing off a request: the work is in Python's own
library. Warnings are those of generated code."""


class Impossible(Exception):
    """There will be no build here; says why."""


class Broken(Impossible):
    """There could have been one: the sources or the tools are at fault."""


def compiler() -> list[str]:
    """The C compiler's command; `Impossible` without one, or without Python's headers."""
    asked = [os.environ.get("CC", ""), str(sysconfig.get_config_var("CC") or ""), "cc", "gcc"]
    command = next((c for c in map(shlex.split, asked) if c and shutil.which(c[0])), None)
    if command is None:
        raise Impossible("there is no C compiler")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise Impossible("Python's headers are not installed")
    return command


def closure(modules: Sequence[str], root: Path = ROOT) -> set[Path]:
    """The sources of `modules`, and of everything of ours that they import, whole: mypyc writes
    constants and layouts of others into the code."""
    known: set[Path] = set()
    pending = [file for name in modules for file in _files(name, root)]
    while pending:
        file = pending.pop()
        if file not in known:
            known.add(file)
            tree = ast.parse(file.read_text(encoding="utf-8"))
            pending += [other for name in _imported(tree) for other in _files(name, root)]
    return known


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(name: str, root: Path) -> Iterator[Path]:
    """The source of a module, and of the packages around it."""
    path = root
    for part in name.split("."):
        path = path / part
        yield from (f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file())


def build(builds: Path = BUILDS) -> Path:
    """Makes a build, whole or not at all, and forgets old ones; `Impossible` says why there is
    none."""
    command = compiler()
    told = compiled.manifest(closure(MODULES), ROOT)
    name = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
    builds.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=builds, prefix="tmp-") as folder:
        work, made = Path(folder), Path(folder, "made")
        with _mypyc(work):
            extensions = _translated(work / "c", builds / "mypy-cache")
        _compile(command, extensions, work / "o", made)
        (made / compiled.MANIFEST).write_text(json.dumps(told), encoding="utf-8")
        with contextlib.suppress(OSError):  # somebody else was as quick
            made.rename(builds / name)
    _forget_old(builds)
    return builds / name


@contextlib.contextmanager
def _mypyc(work: Path) -> Iterator[None]:
    """mypyc can be imported: the environment's own, or one installed for as long as this takes."""
    needed = ("mypyc", "setuptools") if sys.version_info >= (3, 12) else ("mypyc",)
    if all(map(importlib.util.find_spec, needed)):
        yield
        return
    tools = work / "tools"
    install = [str(INSTALL), sys.executable, str(LOCK)]
    install += ["--only-binary", ":all:", "--target", str(tools)]
    try:
        subprocess.run(install, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise Impossible("mypyc could not be installed") from None
    sys.path.insert(0, str(tools))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(tools))


def _translated(folder: Path, cache: Path) -> list[Any]:
    """The C of every module; mypyc speaks through sys.exit and the standard streams."""
    paths = [f"{name.replace('.', '/')}.py" for name in MODULES]
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    options += [f"--cache-dir={cache}", "--no-color-output"]
    told = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(ROOT))
        stack.enter_context(contextlib.redirect_stdout(told))
        stack.enter_context(contextlib.redirect_stderr(told))
        try:
            from mypyc.build import mypycify

            extensions: list[Any] = mypycify(
                [*options, *paths], multi_file=True, target_dir=str(folder), group_name=GROUP
            )
        except (SystemExit, Exception) as fault:  # whatever it stumbles over, Python runs as it is
            last = f"{told.getvalue()}\n{fault}".strip().splitlines()[-3:]
            raise Broken(f"mypyc refused the sources: {' | '.join(last)}") from fault
    return extensions


def _compile(command: list[str], extensions: list[Any], work: Path, made: Path) -> None:
    """Every file of C, the largest first on all cores; then the libraries."""
    flags = shlex.split(str(sysconfig.get_config_var("CFLAGS") or ""))
    flags += [*shlex.split(str(sysconfig.get_config_var("CCSHARED") or "")), *OPTIMISED]
    shared = shlex.split(str(sysconfig.get_config_var("LDSHARED")))[1:]
    compiles: list[tuple[int, list[str]]] = []
    links: list[list[str]] = []
    for number, extension in enumerate(extensions):
        folders = [*extension.include_dirs, sysconfig.get_path("include")]
        included = [f"-I{folder}" for folder in folders]
        objects: list[str] = []
        for at, source in enumerate(extension.sources):
            objects.append(str(work / f"{number}-{at}.o"))
            step = [*command, *flags, *included, "-c", source, "-o", objects[-1]]
            compiles.append((Path(source).stat().st_size, step))
        target = compiled.library(made, extension.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        links.append([*command, *shared, *objects, "-o", str(target)])
    work.mkdir(parents=True)
    compiles.sort(key=lambda step: -step[0])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for steps in ([step for _, step in compiles], links):
            for _ in _followed(pool.map(_run, steps), len(steps)):
                pass


def _run(step: list[str]) -> None:
    done = subprocess.run(step, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise Broken(f"the C compiler failed: {' | '.join(done.stderr.splitlines()[-3:])}")


def _followed(steps: Iterator[None], count: int) -> Iterable[None]:
    """A progress bar, on a terminal only."""
    console = Console(stderr=True)
    hidden = not console.is_terminal
    return track(steps, "compiling", count, console=console, transient=True, disable=hidden)


def _forget_old(builds: Path) -> None:
    """Keeps the newest; processes that run on an older one have it in memory."""
    made = sorted(builds.glob(f"*/{compiled.MANIFEST}"), key=lambda file: -file.stat().st_mtime_ns)
    for file in made[KEPT:]:
        shutil.rmtree(file.parent, ignore_errors=True)


def main(builds: Path = BUILDS) -> None:
    """Never fails: a gateway that is not compiled is only slower."""
    if compiled.is_pure(os.environ) or compiled.found(builds) is not None:
        return
    try:
        compiler()
        if sys.stderr.isatty():
            sys.stderr.write("compiling the hot path (half a minute, when it has changed)\n")
        build(builds)
    except Impossible as reason:
        if sys.stderr.isatty() or isinstance(reason, Broken):
            sys.stderr.write(f"{reason}: the gateway runs uncompiled, which is only slower\n")


if __name__ == "__main__":
    main()
