"""Packages come by uv where it can be had, by pip in any case; a script stands for Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = """#!/bin/sh
echo "$*" >>{log}
case "$*" in
"-m pip config list") echo "{config}" ;;
"-m uv --version") test -e {uv} ;;
*installer.lock*) {had} && touch {uv} ;;
"-m uv pip install"*) {works} ;;
esac
"""
HAVE, WITH_UV = "pip installs uv", "uv installs"
PIP = "pip installs"


def asked(
    folder: Path, *, config: str = "global.cert='/a'", had: str = "true", works: str = "true"
) -> list[str]:
    """What was installed in turn, by whom; the options are passed on."""
    python, log = folder / "python", folder / "log"
    uv = folder / "uv"
    text = PYTHON.format(log=log, config=config, uv=uv, had=had, works=works)
    python.write_text(text, encoding="utf-8")
    python.chmod(0o755)
    install = ROOT / "requirements" / "install.sh"
    done = subprocess.run(
        [install, python, "some.lock", "--target", "there"], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    told = []
    for line in log.read_text(encoding="utf-8").splitlines():
        if " install " not in f"{line} ":
            continue
        assert "--require-hashes" in line
        if "installer.lock" in line:
            told.append(HAVE)
            continue
        assert line.endswith("-r some.lock --target there")
        told.append(WITH_UV if "-m uv" in line else PIP)
    return told


def test_uv_is_had_once(tmp_path: Path) -> None:
    assert asked(tmp_path) == [HAVE, WITH_UV]
    (tmp_path / "log").unlink()
    assert asked(tmp_path) == [WITH_UV]


@pytest.mark.parametrize(
    ("told", "by"),
    [
        ({"had": "false"}, [HAVE, PIP]),
        ({"works": "false"}, [HAVE, WITH_UV, PIP]),
        ({"config": "global.index-url='https://packages.inside.example'"}, [PIP]),
        ({"config": ":env:.no-index='1'"}, [PIP]),
        ({"config": "global.index-url='a'\nglobal.cert='/a'" + "\n" * 9_000}, [PIP]),
    ],
)
def test_where_it_cannot_be_had_or_does_not_get_through_pip_does_it(
    tmp_path: Path, told: dict[str, str], by: list[str]
) -> None:
    assert asked(tmp_path, **told) == by
