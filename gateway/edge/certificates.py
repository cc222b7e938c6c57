"""The certificates of a TLS listener: loaded, checked, chosen by name, replaced when files change.

A connection keeps the context it began with; only new ones see a replacement. Whatever is wrong
with new files is said, and the old certificates go on.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from chassis.clock import Clock
from chassis.errors import ConfigurationFault

PROTOCOL = "http/1.1"
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secret and authenticated. Those of 1.3 all are."""

ClientMode = Literal["none", "optional", "required"]
_MODES = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}
Signature = tuple[tuple[int, int, int] | None, ...]


class Pair(msgspec.Struct, frozen=True):
    """A certificate with its chain and its private key, in PEM; both may be one file."""

    certificate: Path
    key: Path


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """What a listener is told. The first pair serves whoever asks for no name that another has."""

    pairs: tuple[Pair, ...]
    client: ClientMode = "none"
    client_ca: Path | None = None

    @property
    def files(self) -> Iterator[Path]:
        for pair in self.pairs:
            yield from (pair.certificate, pair.key)
        if self.client_ca is not None:
            yield self.client_ca


class Loaded(msgspec.Struct, frozen=True):
    """What is served: the context of the first pair, which finds the others by name; and the first
    moment at which one of the certificates has expired, in UNIX seconds."""

    context: ssl.SSLContext
    expires: float


class Certificates:
    """Those that serve now. `look` notices changed files once they have come to rest."""

    def __init__(self, tls: Tls, clock: Clock) -> None:
        """Raises `ConfigurationFault` with everything that is wrong with the files."""
        self.tls = tls
        self.replaced = 0
        self.refused = 0
        self._clock = clock
        self._served = self._seen = self._signature()
        self._why = ""
        self._loaded = load(tls, clock.now())

    def __repr__(self) -> str:
        return f"Certificates({len(self.tls.pairs)} pairs, replaced={self.replaced})"

    @property
    def context(self) -> ssl.SSLContext:
        return self._loaded.context

    @property
    def expires(self) -> float:
        return self._loaded.expires

    def look(self) -> str | None:
        """Takes changed files over when they have not changed since the last look.

        What there is to tell: "" for a replacement, why there was none (once), or None.
        """
        previous, self._seen = self._seen, self._signature()
        if self._seen == self._served:
            self._why = ""
            return None
        if self._seen != previous:
            return None
        try:
            self._loaded = load(self.tls, self._clock.now())
        except ConfigurationFault as fault:
            return self._refuse(str(fault))
        self._served = self._seen
        self._why = ""
        self.replaced += 1
        return ""

    def _refuse(self, why: str) -> str | None:
        """They are tried again at each look: what is not valid yet will be."""
        if why == self._why:
            return None
        self._why = why
        self.refused += 1
        return why

    def _signature(self) -> Signature:
        return tuple(_identity(file) for file in self.tls.files)


def load(tls: Tls, now: float) -> Loaded:
    """Reads and checks all files; `ConfigurationFault` names each that cannot serve."""
    faults: list[str] = []
    contexts: dict[str, ssl.SSLContext] = {}
    base: ssl.SSLContext | None = None
    expires: list[float] = []
    for pair in tls.pairs:
        try:
            leaf = _checked(pair, now)
            context = _context(tls, pair)
        except _Unusable as unusable:
            faults.append(str(unusable))
            continue
        base = base or context
        expires.append(leaf.not_valid_after_utc.timestamp())
        for name in _names(leaf):
            contexts.setdefault(name, context)
    if faults or base is None:
        raise ConfigurationFault(list(dict.fromkeys(faults)), what="the TLS files")
    if len(tls.pairs) > 1:
        _choose_by_name(base, contexts)
    return Loaded(base, min(expires))


class _Unusable(Exception):
    """What is wrong with one file."""


def _choose_by_name(base: ssl.SSLContext, contexts: Mapping[str, ssl.SSLContext]) -> None:
    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        found = _find(name.lower(), contexts) if name else None
        if found is not None and found is not base:
            connection.context = found

    base.sni_callback = choose


def _find(name: str, contexts: Mapping[str, ssl.SSLContext]) -> ssl.SSLContext | None:
    return contexts.get(name) or contexts.get("*." + name.partition(".")[2])


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def _context(tls: Tls, pair: Pair) -> ssl.SSLContext:
    """All contexts of a listener are alike but for the pair, since a name may switch them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols([PROTOCOL])
    try:
        context.load_cert_chain(pair.certificate, pair.key, password=lambda: "")
    except (OSError, ValueError) as fault:
        raise _Unusable(f"{pair.certificate} with {pair.key}: {_reason(fault)}") from None
    if tls.client_ca is not None:
        try:
            context.load_verify_locations(tls.client_ca)
        except (OSError, ValueError) as fault:
            raise _Unusable(f"client CA {tls.client_ca}: {_reason(fault)}") from None
    context.verify_mode = _MODES[tls.client]
    return context


def _checked(pair: Pair, now: float) -> x509.Certificate:
    """The certificate, once it and its key are known to belong together and to be valid."""
    chain, key_text = _read(pair.certificate), _read(pair.key)
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise _Unusable(f"{pair.certificate} holds no certificate in PEM") from None
    try:
        key = serialization.load_pem_private_key(key_text, None)
    except TypeError:
        raise _Unusable(f"key {pair.key} asks for a passphrase: store it without one") from None
    except Exception:  # whatever cryptography makes of a key that is none, its words may quote it
        raise _Unusable(f"{pair.key} holds no private key in PEM") from None
    if leaf.public_key() != key.public_key():
        raise _Unusable(f"key {pair.key} does not belong to the certificate {pair.certificate}")
    if now >= leaf.not_valid_after_utc.timestamp():
        when = leaf.not_valid_after_utc
        raise _Unusable(f"certificate {pair.certificate} expired at {when:%Y-%m-%d %H:%M} UTC")
    if now < leaf.not_valid_before_utc.timestamp():
        when = leaf.not_valid_before_utc
        raise _Unusable(f"certificate {pair.certificate} is valid from {when:%Y-%m-%d %H:%M} UTC")
    return leaf


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as fault:
        raise _Unusable(f"{file} cannot be read: {fault.strerror}") from None


def _reason(fault: Exception) -> str:
    """OpenSSL's own words, without its numbers and file positions."""
    reason = getattr(fault, "reason", None) or getattr(fault, "strerror", None) or str(fault)
    return str(reason).lower().replace("_", " ")


def _identity(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
