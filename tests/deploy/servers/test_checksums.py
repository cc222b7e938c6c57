"""The pinned content of a folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploy.servers import checksums
from deploy.servers.templates import DATA


def test_it_reads_and_finds_what_sha256sum_writes(tmp_path: Path) -> None:
    (tmp_path / "a.jar").write_bytes(b"a")
    (tmp_path / "b.jar").write_bytes(b"b")
    said = subprocess.run(
        ["sha256sum", "a.jar", "b.jar"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    pinned = checksums.read(said.stdout)
    assert checksums.faults(pinned, checksums.of_folder(tmp_path)) == []


def test_every_difference_is_named_with_its_file() -> None:
    pinned = {"same": "1", "changed": "2", "gone": "3"}
    found = {"same": "1", "changed": "9", "new": "4"}
    said = "\n".join(checksums.faults(pinned, found))
    assert "changed has another content" in said
    assert "gone is missing" in said and "new is not expected" in said
    assert "same" not in said


@pytest.mark.parametrize(
    ("name", "main"), [("kafka", "kafka_2.13-4.1.1"), ("cassandra", "cassandra-all-5.0.6")]
)
def test_every_jar_is_pinned(name: str, main: str) -> None:
    pinned = checksums.read((DATA / name / "sha256").read_text())
    assert f"{main}.jar" in pinned and len(pinned) > 80
    assert all(jar.endswith(".jar") and len(digest) == 64 for jar, digest in pinned.items())


@pytest.mark.parametrize("name", ["consul", "s3"])
def test_every_module_is_pinned(name: str) -> None:
    module = (DATA / name / "go.mod").read_text()
    sums = (DATA / name / "go.sum").read_text()
    assert "replace" not in module
    assert all(line.split()[2].startswith("h1:") for line in sums.splitlines())
