"""What a gateway is told to listen on: `host:port`, or a URL with options.

```
127.0.0.1:8080
tls://0.0.0.0:8443?cert=a.pem&key=a.key&cert=b.pem&key=b.key&client=required&client_ca=ca.pem
unix:///run/stagedoor.sock?mode=660
tcp://[::]:8080?proxy=10.0.0.0/8&trust=10.0.0.0/8&head_s=3
```
`cert` and `key` come in pairs; without a key it is in the certificate's file. `client` asks for
client certificates (`optional` or `required`) that `client_ca` has signed. `proxy` lists the
balancers that must send a PROXY protocol header, or says `all`. `trust` (CIDRs, or `unix`) and
`hops` say whose forwarding fields to believe, in place of what the gateway's settings say. Limits
may be given by their names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from chassis.errors import ConfigurationFault
from gateway.edge.certificates import ClientMode, Pair, Tls
from gateway.edge.limits import Limits
from gateway.edge.peer import NOBODY, Network, Trust, networks, trust_of

SCHEMES = ("tcp", "tls", "unix")
_TLS_OPTIONS = ("cert", "key", "client", "client_ca")
_OPTIONS = ("proxy", "trust", "hops")
_WHOLE = ("stall_s", "stream_idle_s", "window")
"""Limits that a gateway has once, whatever the listener."""
_LIMITS = {
    field.name: field.type for field in msgspec.structs.fields(Limits) if field.name not in _WHOLE
}
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_MODE = re.compile(r"0?[0-7]{3}")


class Balancers(msgspec.Struct, frozen=True):
    """Who must send a PROXY header: those in `networks`, or everybody."""

    networks: tuple[Network, ...] = ()
    everybody: bool = False


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """One listener, as told. `path` is of a unix socket, which only `mode` may use."""

    text: str
    host: str = ""
    port: int = 0
    path: Path | None = None
    mode: int = 0o660
    tls: Tls | None = None
    balancers: Balancers | None = None
    trust: Trust = NOBODY
    limits: Limits = Limits()

    @property
    def name(self) -> str:
        """What it is called in messages and metrics."""
        return self.text.partition("?")[0]

    @property
    def place(self) -> str:
        """`host:port`; of a unix socket its path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return str(self.path) if self.path is not None else f"{host}:{self.port}"


def listens(text: str, limits: Limits, trust: Trust) -> tuple[Listen, ...]:
    """What `text` says, one or several between blanks; `ConfigurationFault` names every fault."""
    faults: list[str] = []
    found: list[Listen] = []
    for one in text.split():
        try:
            found.append(_Reading(one, limits, trust).listen())
        except _Unusable as unusable:
            faults += [f"listen {one.partition('?')[0]!r}: {why}" for why in unusable.faults]
    if not text.split():
        faults.append("nothing to listen on: write host:port, for example 127.0.0.1:8080")
    faults += _twice(found)
    if faults:
        raise ConfigurationFault(faults, what="the settings")
    return tuple(found)


def place(text: str) -> tuple[str, int]:
    """The host and port of `host:port`; ValueError says how to write one."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError("write host:port, for example 127.0.0.1:8080 or [::1]:8080")
    if int(match[2]) > 65_535:
        raise ValueError(f"there is no port {match[2]}; write host:port with 0 to 65535")
    return match[1].strip("[]"), int(match[2])


class _Unusable(Exception):
    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(*faults)
        self.faults = faults


class _Reading:
    """One text on its way to a `Listen`, and what is wrong with it."""

    def __init__(self, text: str, limits: Limits, trust: Trust) -> None:
        self._text = text
        self._limits = limits
        self._trust = trust
        self._faults: list[str] = []
        self._options: list[tuple[str, str]] = []

    def listen(self) -> Listen:
        """Raises `_Unusable`."""
        values: dict[str, Any] = {"text": self._text}
        if "://" not in self._text and "?" not in self._text:
            scheme = "tcp"
            values |= self._where(self._text)
        else:
            scheme, values_of = self._split()
            values |= values_of
        self._check_names(scheme)
        if scheme == "tls":
            values["tls"] = self._tls()
        values["balancers"] = self._balancers(scheme)
        values["trust"] = self._trusted()
        values["limits"] = self._limited()
        if self._faults:
            raise _Unusable(self._faults)
        return Listen(**values)

    def _split(self) -> tuple[str, dict[str, Any]]:
        try:
            url = urlsplit(self._text)
        except ValueError:
            raise _Unusable(["it is no URL"]) from None
        if url.scheme not in SCHEMES:
            kinds = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise _Unusable([f"write host:port, or a URL that begins with one of {kinds}"])
        self._options = parse_qsl(url.query, keep_blank_values=True)
        if url.scheme == "unix":
            return url.scheme, self._path(unquote(url.path), url.netloc)
        if url.path not in ("", "/"):
            self._faults.append(f"{url.path!r} has no meaning here")
        return url.scheme, self._where(url.netloc)

    def _where(self, text: str) -> dict[str, Any]:
        host, port = self._try(lambda: place(text)) or ("", 0)
        return {"host": host, "port": port}

    def _path(self, path: str, netloc: str) -> dict[str, Any]:
        if netloc or len(path) < 2:
            self._faults.append("write unix:///absolute/path, with three slashes")
        values: dict[str, Any] = {"path": Path(path)}
        mode = self._one("mode")
        if mode is not None and _MODE.fullmatch(mode) is None:
            self._faults.append(f"mode {mode!r}: write three octal digits, such as 660")
        elif mode is not None:
            values["mode"] = int(mode, 8)
        return values

    def _check_names(self, scheme: str) -> None:
        known = {*_OPTIONS, *_LIMITS}
        known |= set(_TLS_OPTIONS) if scheme == "tls" else {"mode"} if scheme == "unix" else set()
        for name in dict.fromkeys(name for name, _ in self._options):
            if name in _TLS_OPTIONS and scheme != "tls":
                self._faults.append(f"{name} is for tls:// only")
            elif name not in known:
                self._faults.append(f"there is no option {name!r}; there are {_listed(known)}")
            elif name not in ("cert", "key") and len(self._all(name)) > 1:
                self._faults.append(f"{name} is given twice")

    def _tls(self) -> Tls | None:
        pairs: list[Pair] = []
        for name, value in self._options:
            if name == "cert":
                pairs.append(Pair(Path(value), Path(value)))
            elif name == "key" and pairs and pairs[-1].key == pairs[-1].certificate:
                pairs[-1] = Pair(pairs[-1].certificate, Path(value))
            elif name == "key":
                self._faults.append("each key comes behind its cert: cert=a.pem&key=a.key")
        if not pairs:
            self._faults.append("tls:// needs ?cert=FILE&key=FILE")
        ca = self._one("client_ca")
        client = self._one("client") or ("required" if ca else "none")
        if client not in ("none", "optional", "required"):
            self._faults.append(f"client {client!r}: it is none, optional or required")
            return None
        if (client == "none") == bool(ca):
            self._faults.append("client certificates need both client and client_ca=FILE")
        mode: ClientMode = client  # type: ignore[assignment]  # just checked
        return Tls(pairs=tuple(pairs), client=mode, client_ca=Path(ca) if ca else None)

    def _balancers(self, scheme: str) -> Balancers | None:
        text = self._one("proxy")
        if text is None:
            return None
        if text == "all":
            return Balancers(everybody=True)
        if scheme == "unix":
            self._faults.append("proxy: whoever connects to a unix socket has no address: say all")
            return None
        return Balancers(self._try(lambda: networks(_comma(text), "balancer")) or ())

    def _trusted(self) -> Trust:
        text, hops = self._one("trust"), self._one("hops")
        if text is None and hops is None:
            return self._trust
        if hops is not None and not (hops.isascii() and hops.isdigit() and len(hops) < 3):
            self._faults.append(f"hops {hops!r}: write how many proxies stand in front, such as 1")
            return self._trust
        listed = _comma(text or "")
        return self._try(lambda: trust_of(listed, int(hops or 0))) or self._trust

    def _limited(self) -> Limits:
        given: dict[str, Any] = {}
        for name, value in self._options:
            if name in _LIMITS:
                given[name] = self._try(lambda n=name, v=value: _limit(n, v))  # type: ignore[misc]
        return msgspec.structs.replace(self._limits, **given)

    def _all(self, name: str) -> list[str]:
        return [value for given, value in self._options if given == name]

    def _one(self, name: str) -> str | None:
        found = self._all(name)
        return found[-1] if found else None

    def _try(self, read: Callable[[], Any]) -> Any:
        """What `read` gives, or None and its complaint among the faults."""
        try:
            return read()
        except ConfigurationFault as fault:
            self._faults += fault.faults
        except ValueError as fault:
            self._faults.append(str(fault))
        return None


def _limit(name: str, text: str) -> Any:
    try:
        value = msgspec.convert(text, _LIMITS[name], strict=False)
    except msgspec.ValidationError:
        raise ValueError(f"{name} {text!r}: write a number") from None
    if value is not None and not value > 0:
        raise ValueError(f"{name} {text!r}: write a number above 0")
    return value


def _twice(found: Sequence[Listen]) -> Iterator[str]:
    seen: set[tuple[str, int, Path | None]] = set()
    for one in found:
        where = (one.host, one.port, one.path)
        if where in seen and (one.port or one.path):
            yield f"listen {one.name!r}: it is listed twice"
        seen.add(where)


def _comma(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
