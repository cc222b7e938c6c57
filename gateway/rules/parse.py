"""Text to a typed document, every fault at once: its file, its line and what is wrong.

msgspec stops at the first fault of a value; here the faulty spot is noted and taken out, and the
rest is tried again, so that one edit mends all.
"""

from __future__ import annotations

import copy
import difflib
import re
from typing import Any, TypeVar, get_type_hints

import msgspec

from gateway.rules import model
from gateway.rules.source import Fault, Path, Source

T = TypeVar("T")

MAX_FAULTS_A_PART = 50
_AT = re.compile(r"(?P<reason>.*?)(?: - at (?P<key>`key` in )?`\$?(?P<path>[^`]*)`)?\Z", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_FIELD = re.compile(r"(unknown|missing required) field `([^`]+)`")
_SECTIONS: dict[str, Any] = {
    "clusters": model.Cluster,
    "filters": model.Filter,
    "auth": model.AuthPolicy,
    "limits": model.RateLimit,
}
_LISTS: dict[str, Any] = {"rules": model.Rule, "golden": model.Golden}


def parse(source: Source) -> tuple[model.Document, list[Fault]]:
    """The document as far as it is usable, and the faults; not to be served when there are any."""
    faults = list(source.faults)
    if source.data is None:
        return model.Document(), faults
    if not isinstance(source.data, dict):
        return model.Document(), [*faults, source.fault((), "a document is a mapping of sections")]
    parts: dict[str, Any] = {}
    for section, value in source.data.items():
        if section in _SECTIONS:
            parts[section] = _named(source, section, value, faults)
        elif section in _LISTS:
            parts[section] = _listed(source, section, value, faults)
        else:
            known = [*_SECTIONS, *_LISTS]
            reason = f"unknown section {section!r}{_meant(section, known)}"
            faults.append(source.fault((section,), reason))
    return model.Document(**parts), faults


def _named(source: Source, section: str, value: Any, faults: list[Fault]) -> dict[str, Any]:
    if not isinstance(value, dict):
        faults.append(source.fault((section,), f"{section} is a mapping of names"))
        return {}
    called = f"{section.removesuffix('s')} {{!r}}".format
    for name in value:
        convert(source, (section, name), name, model.Name, faults, what=called(name))
    return {
        name: convert(source, (section, name), item, _SECTIONS[section], faults, what=called(name))
        or _stand_in(section)
        for name, item in value.items()
    }


def _listed(source: Source, section: str, value: Any, faults: list[Fault]) -> tuple[Any, ...]:
    if not isinstance(value, list):
        faults.append(source.fault((section,), f"{section} is a list"))
        return ()
    kind = _LISTS[section]
    return tuple(
        convert(source, (section, i), item, kind, faults, what=_called(section, i, item))
        or _stand_in(section, item, i)
        for i, item in enumerate(value)
    )


def _stand_in(section: str, item: Any = None, index: int = 0) -> Any:
    """In place of an unusable item, so that the others can still be checked against the names."""
    if section == "rules":
        name = item.get("name") if isinstance(item, dict) else None
        return model.Rule(name=str(name or f"rules-{index}"), reply=model.Reply())
    stand_ins = {
        "clusters": model.Cluster(service="unusable"),
        "filters": model.Filter(filter="unusable"),
        "auth": model.AuthPolicy(
            issuer="unusable", audience="unusable", jwks=model.JwksSource(url="https://unusable")
        ),
        "limits": model.RateLimit(per_s=1, burst=1),
        "golden": model.Golden(request="GET /", rule=None),
    }
    return stand_ins[section]


def _called(section: str, index: int, item: Any) -> str:
    name = item.get("name") if isinstance(item, dict) else None
    if section == "rules":
        return f"rule {name!r}" if isinstance(name, str) else f"rules[{index}]"
    misplaced = isinstance(item, dict) and "match" in item
    return f"{section}[{index}]" + (" (a rule? it belongs under rules)" if misplaced else "")


def convert(
    source: Source, at: Path, data: Any, kind: type[T], faults: list[Fault], *, what: str
) -> T | None:
    """`data` as `kind`; each fault is noted, and None given, when it cannot be."""
    pruned: set[Path] = set()
    for attempt in range(MAX_FAULTS_A_PART):
        try:
            value = msgspec.convert(data, kind)
        except msgspec.ValidationError as fault:
            reason, path = _located(str(fault), data, kind)
            if not _follows(reason, path, pruned):
                faults.append(source.fault((*at, *path), f"{what}: {_said(reason, path)}"))
            if not path:
                return None
            data = data if attempt else copy.deepcopy(data)
            pruned.add(path)
            _prune(data, path)
        else:
            return None if pruned else value
    return None


def _located(text: str, data: Any, kind: Any) -> tuple[str, Path]:
    """The reason, and the path of what has to go for the rest to be judged."""
    found = _AT.match(text)
    assert found is not None
    reason, path = found["reason"], _resolve(found["path"] or "", data, kind, text)
    if found["key"]:
        path = (*path, _culprit(data, path, kind, text))
    field = _FIELD.search(reason)
    if field and field[1] == "unknown":
        path = (*path, field[2])
    return reason, path


def _resolve(written: str, data: Any, kind: Any, text: str) -> Path:
    path: Path = ()
    for name, index in _STEP.findall(written):
        if index == "...":
            path = (*path, _culprit(data, path, kind, text))
        else:
            path = (*path, name or int(index))
    return path


def _culprit(data: Any, path: Path, kind: Any, text: str) -> str:
    """Which key of the mapping at `path` a fault speaks of: the one without which it is gone."""
    keys = list(_at(data, path))
    for key in keys:
        trial = copy.deepcopy(data)
        del _at(trial, path)[key]
        if _complaint(trial, kind) != text:
            return str(key)
    return str(keys[0])


def _complaint(data: Any, kind: Any) -> str | None:
    try:
        msgspec.convert(data, kind)
    except msgspec.ValidationError as fault:
        return str(fault)
    return None


def _at(data: Any, path: Path) -> Any:
    for step in path:
        data = data[step]
    return data


def _prune(data: Any, path: Path) -> None:
    """Takes the faulty spot out."""
    around = _at(data, path[:-1])
    del around[path[-1]]


def _follows(reason: str, path: Path, pruned: set[Path]) -> bool:
    """Whether a fault is only the hole that an earlier one left."""
    missing = _FIELD.search(reason)
    if missing and missing[1] == "missing required":
        return (*path, missing[2]) in pruned
    return False


def _said(reason: str, path: Path) -> str:
    where = ".".join(map(str, path))
    field = _FIELD.search(reason)
    if field and field[1] == "unknown":
        known = [name for name in _fields() if name != field[2]]
        return f"unknown field {where!r}{_meant(field[2], known)}"
    if field:
        return f"{field[2]!r} is missing" + (f" in {where!r}" if where else "")
    plain = reason.replace("`", "").replace("Expected ", "expected ").replace("object", "mapping")
    return f"{where}: {plain}" if where else plain


def _meant(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _fields() -> list[str]:
    parts = [kind for kind in vars(model).values() if isinstance(kind, type)]
    structs = [kind for kind in parts if issubclass(kind, model.Part)]
    return sorted({name.rstrip("_") for kind in structs for name in get_type_hints(kind)})
