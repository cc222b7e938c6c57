"""The certificate by which a client has proved who it is: what rules and policies may go by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "userId": "UID",
}
_NAMED = {"DNS", "URI", "email", "IP Address"}


class Certificate(msgspec.Struct, frozen=True):
    """`subject` is written as RFC 4514 has it (`CN=probe,O=Example`, the last part first), `names`
    are its subject alternative names, `fingerprint` is the SHA-256 of all of it in hexadecimal."""

    subject: str
    common_name: str
    names: tuple[str, ...]
    fingerprint: str


def certificate_of(decoded: Mapping[str, Any] | None, der: bytes | None) -> Certificate | None:
    """From what Python's ssl tells of a verified certificate; None where there is none."""
    if not decoded or not der:
        return None
    pairs = [pair for part in decoded.get("subject", ()) for pair in part]
    return Certificate(
        subject=",".join(
            "+".join(f"{_SHORT.get(name, name)}={_escaped(value)}" for name, value in part)
            for part in reversed(decoded.get("subject", ()))
        ),
        common_name=next((v for name, v in reversed(pairs) if name == "commonName"), ""),
        names=tuple(v for kind, v in decoded.get("subjectAltName", ()) if kind in _NAMED),
        fingerprint=hashlib.sha256(der).hexdigest(),
    )


def _escaped(value: str) -> str:
    """RFC 4514 section 2.4."""
    text = "".join(f"\\{c}" if c in '"+,;<>\\' else c for c in value).replace("\0", "\\00")
    if text[:1] in ("#", " "):
        text = "\\" + text
    return text[:-1] + "\\ " if len(text) > 1 and text.endswith(" ") else text
