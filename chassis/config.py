"""Settings: environment and TOML into one frozen typed value, every fault reported at once.

A settings class is a frozen `msgspec.Struct`. Field `log_level` of a class read with prefix
`STAGEDOOR` comes from `STAGEDOOR_LOG_LEVEL`, else from `log_level` in the TOML file, else from
its default. Unknown keys are faults: a misspelt setting is never silently ignored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_origin

import msgspec

from chassis.errors import ConfigurationFault

S = TypeVar("S", bound=msgspec.Struct)


def load(
    settings: type[S],
    environ: Mapping[str, str],
    *,
    prefix: str = "STAGEDOOR",
    file: Path | None = None,
) -> S:
    """Reads `settings`; `ConfigurationFault` names each unusable value and where it stands."""
    faults: list[str] = []
    values = _from_file(file, faults) if file is not None else {}
    fields = {field.encode_name: field for field in msgspec.structs.fields(settings)}
    faults += [f"{file}: unknown setting {name!r}" for name in values if name not in fields]
    sources = dict.fromkeys(values, str(file))
    for name in fields:
        variable = f"{prefix}_{name.upper()}"
        if variable in environ:
            values[name] = environ[variable]
            sources[name] = variable
    usable: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in values:
            if field.required:
                faults.append(f"{prefix}_{name.upper()} is not set and has no default")
            continue
        try:
            value = _listed(values[name], field.type)
            usable[name] = msgspec.convert(value, field.type, strict=False, dec_hook=_path)
        except msgspec.ValidationError as fault:
            faults.append(f"{sources[name]}: {fault}")
    if faults:
        raise ConfigurationFault(faults, what="the settings")
    return settings(**usable)


def _listed(value: Any, type_: Any) -> Any:
    """A list in one text has blanks or commas between."""
    if isinstance(value, str) and get_origin(type_) is tuple:
        return value.replace(",", " ").split()
    return value


def _path(type_: type, value: Any) -> Any:
    if type_ is Path and isinstance(value, str) and value:
        return Path(value)
    raise TypeError(f"expected {type_.__name__}, got {value!r}")


def _from_file(file: Path, faults: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as fault:
        faults.append(f"{file}: cannot be read: {fault.strerror}")
    except tomllib.TOMLDecodeError as fault:
        faults.append(f"{file}: {fault}")
    return {}
