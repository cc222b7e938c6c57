"""The pinned content of a folder: each file's SHA-256, written as `sha256sum` does."""

from __future__ import annotations

import hashlib
from pathlib import Path


def read(text: str) -> dict[str, str]:
    """File name -> hexadecimal digest."""
    pairs = (line.split() for line in text.splitlines() if line.strip())
    return {name: digest for digest, name in pairs}


def of_folder(folder: Path) -> dict[str, str]:
    return {file.name: _digest(file) for file in sorted(folder.iterdir())}


def faults(pinned: dict[str, str], found: dict[str, str]) -> list[str]:
    """What is not as pinned, one line for each file; empty when everything is."""
    missing = [f"{name} is missing" for name in sorted(pinned.keys() - found.keys())]
    other = [f"{name} is not expected" for name in sorted(found.keys() - pinned.keys())]
    wrong = [
        f"{name} has another content: {found[name][:16]}… instead of {pinned[name][:16]}…"
        for name in sorted(pinned.keys() & found.keys())
        if pinned[name] != found[name]
    ]
    return wrong + missing + other


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
