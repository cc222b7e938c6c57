"""A document's text with its lines: YAML (JSON is YAML too) to plain data, and back to a line.

Scalars are read as YAML 1.2 does (`20:00`, `on` and dates are strings). Keys are strings,
duplicates are faults, anchors and `<<` merges work, expansion is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml
from msgspec import Struct

Path = tuple[str | int, ...]

MAX_BYTES = 16 * 1024 * 1024
MAX_NODES = 2_000_000
MAX_DEPTH = 32
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"


class Fault(Struct, frozen=True, order=True):
    """One thing wrong with a document; a warning does not refuse it."""

    file: str
    line: int
    reason: str
    warning: bool = False

    def __str__(self) -> str:
        word = "warning: " if self.warning else ""
        return f"{self.file}:{self.line}: {word}{self.reason}"


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """Composes nodes; knows the scalars of YAML 1.2 only."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # how PyYAML wants it


def _resolves(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(_TAG + tag, re.compile(rf"(?:{pattern})\Z"), list(first))


_resolves("null", "~|null|Null|NULL|", "~nN\0")
_Loader.yaml_implicit_resolvers.setdefault("", []).append((f"{_TAG}null", re.compile(r"\Z")))
_resolves("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolves("int", "[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789")
_resolves("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789")
_resolves("merge", "<<", "<")


class Source:
    """The data of a text, the faults found on the way, and the line of any path into the data."""

    def __init__(self, text: bytes, file: str) -> None:
        self.text = text
        self.file = file
        self.faults: list[Fault] = []
        self._budget = MAX_NODES
        self._root = self._compose()
        self.data: Any = None if self._root is None else self._build(self._root, 0)

    def line(self, path: Sequence[str | int]) -> int:
        """The line, from 1, of what `path` leads to, or of the nearest thing around it."""
        node, line = self._root, 1
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            node, line = found
        return line

    def fault(self, path: Sequence[str | int], reason: str, *, warning: bool = False) -> Fault:
        return Fault(self.file, self.line(path), reason, warning)

    def _compose(self) -> yaml.Node | None:
        if len(self.text) > MAX_BYTES:
            self._say(1, f"the document is larger than {MAX_BYTES} bytes")
            return None
        try:
            root: yaml.Node | None = yaml.compose(self.text.decode(), Loader=_Loader)
        except UnicodeDecodeError as fault:
            self._say(self.text.count(b"\n", 0, fault.start) + 1, "not UTF-8 text")
            return None
        except (yaml.MarkedYAMLError, yaml.reader.ReaderError) as fault:
            lines = len(self.text.splitlines()) or 1
            self._say(min(_line_of(fault), lines), _reason_of(fault))
            return None
        if root is None:
            self._say(1, "the document is empty")
        return root

    def _say(self, line: int, reason: str) -> None:
        self.faults.append(Fault(self.file, line, reason))

    def _build(self, node: yaml.Node, depth: int) -> Any:
        self._budget -= 1
        if self._budget < 0 or depth > MAX_DEPTH:
            if not self.faults or "anchors" not in self.faults[-1].reason:
                self._say(_line(node), "nested too deep, or anchors that expand without end")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, depth + 1) for item in node.value]
        return self._mapping(node, depth)

    def _mapping(self, node: yaml.Node, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                merged = {**self._merge(value, depth), **merged}
            elif not isinstance(key, yaml.ScalarNode):
                self._say(_line(key), "a key must be a string")
            elif key.value in own:
                self._say(_line(key), f"{key.value!r} is given twice")
            else:
                own[key.value] = self._build(value, depth + 1)
        return {**merged, **own}

    def _merge(self, node: yaml.Node, depth: int) -> dict[str, Any]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for part in parts:
            data = self._build(part, depth + 1)
            if isinstance(data, dict):
                merged = {**data, **merged}
            else:
                self._say(_line(part), "'<<' takes a mapping")
        return merged

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        read = _SCALARS.get(node.tag, str)
        try:
            return read(node.value)
        except ValueError:
            self._say(_line(node), f"{node.value!r} is no {node.tag.removeprefix(_TAG)}")
            return None


def _integer(text: str) -> int:
    if len(text) > 40:
        raise ValueError(text)
    digits = text.lstrip("+-")
    return int(text, 0) if digits[:2] in ("0x", "0o") else int(text)


_SCALARS: dict[str, Any] = {
    f"{_TAG}null": lambda _: None,
    f"{_TAG}bool": lambda text: text.lower() == "true",
    f"{_TAG}int": _integer,
    f"{_TAG}float": float,
}


def _child(node: yaml.Node | None, step: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return value, _line(key)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], _line(node.value[step])
    return None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _line_of(fault: Exception) -> int:
    mark = getattr(fault, "problem_mark", None) or getattr(fault, "context_mark", None)
    return int(mark.line) + 1 if mark is not None else 1


def _reason_of(fault: Exception) -> str:
    problem = getattr(fault, "problem", None) or getattr(fault, "reason", None) or str(fault)
    context = getattr(fault, "context", None)
    return f"not valid YAML: {problem}" + (f" ({context})" if context else "")
