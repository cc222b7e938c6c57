"""The rules of the house, checked on the source itself."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("chassis", "gateway", "play_api", "microservices", "stream_pipeline", "deploy")
SERVICE_PARTS = {"__init__", "app", "api", "model", "store"}
TIME_OR_CHANCE = {
    ("time", "time"),
    ("time", "monotonic"),
    ("time", "perf_counter"),
    ("time", "sleep"),
    ("random", "random"),
    ("random", "randint"),
    ("random", "choice"),
    ("os", "urandom"),
    ("secrets", "token_hex"),
    ("secrets", "token_bytes"),
    ("secrets", "token_urlsafe"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("uuid", "uuid4"),
}
DRIVERS = {
    "argon2": {"chassis/identity/passwords.py"},
    "obstore": {f"chassis/storage/{part}.py" for part in ("local", "s3", "s3_bucket")},
    "redis": {"chassis/cache/redis.py"},
    "prometheus_client": {"chassis/telemetry/metrics.py"},
    "tenacity": {"chassis/resilience/retry.py"},
    "uvicorn": {"chassis/http/serving.py"},
    "yaml": {"gateway/rules/source.py"},
    "consul": {f"chassis/discovery/consul{part}.py" for part in ("", "_leases", "_shell")},
    "pyarrow": {"stream_pipeline/sinks/archive.py"},
}


def sources() -> Iterator[Path]:
    for package in PRODUCT:
        yield from sorted((ROOT / package).rglob("*.py"))


def calls(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Every `module.function(...)`: its two names and its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            yield name, node.func.attr, node.lineno


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def parsed() -> Iterator[tuple[str, ast.AST]]:
    for file in sources():
        yield file.relative_to(ROOT).as_posix(), ast.parse(file.read_text(encoding="utf-8"))


def test_only_the_clock_reads_time_sleeps_or_draws_chance() -> None:
    found = [
        f"{file}:{line} {owner}.{name}"
        for file, tree in parsed()
        if file != "chassis/clock.py"
        for owner, name, line in calls(tree)
        if (owner, name) in TIME_OR_CHANCE
    ]
    assert found == []


def test_every_driver_is_imported_in_its_own_file_only() -> None:
    found = [
        f"{file} imports {driver}"
        for file, tree in parsed()
        for driver in set(imports(tree)) & DRIVERS.keys()
        if file not in DRIVERS[driver]
    ]
    assert found == []


def test_every_microservice_has_the_same_four_parts() -> None:
    for folder in sorted((ROOT / "microservices").iterdir()):
        if folder.is_dir() and folder.name != "__pycache__":
            parts = {part.stem for part in folder.iterdir() if part.name != "__pycache__"}
            assert parts == SERVICE_PARTS, folder.name


def test_every_composition_root_fits_on_a_page() -> None:
    for file in sources():
        if file.name == "app.py":
            lines = file.read_text(encoding="utf-8").count("\n")
            assert lines <= 130, f"{file.relative_to(ROOT)} has {lines} lines"


def test_every_module_says_why_it_is_there() -> None:
    silent = [file for file, tree in parsed() if _body(tree) and not ast.get_docstring(tree)]  # type: ignore[arg-type]
    assert silent == []


def _body(tree: ast.AST) -> list[ast.stmt]:
    return tree.body if isinstance(tree, ast.Module) else []


def committed() -> list[str]:
    """The files that git knows; without git, what is there at the top."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        return [one.name for one in ROOT.iterdir()]
    return listed.stdout.split("\n")[:-1]


def test_the_locks_carry_hashes_and_no_addresses() -> None:
    files = committed()
    assert "uv.lock" not in files
    for name in ("runtime", "dev"):
        text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
        assert not re.search(r"https?://|index-url|find-links", text)
        pinned = re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE | re.IGNORECASE)
        assert len(pinned) > 30 and text.count("--hash=sha256:") >= len(pinned)
