"""Keys in the words of each DRM system: which key a player has to ask for, and where."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from typing import NamedTuple

from chassis.contracts.common import DrmSystem

LICENCE_URL = "/v1/licence"


class System(NamedTuple):
    key_format: str
    id: uuid.UUID
    name: str


SYSTEMS: Mapping[str, System] = {
    "clearkey": System(
        "org.w3.clearkey", uuid.UUID("e2719d58-a985-b3c9-781a-b030af78d30e"), "ClearKey1.0"
    ),
    "widevine": System(
        "urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed",
        uuid.UUID("edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"),
        "Widevine",
    ),
    "playready": System(
        "com.microsoft.playready", uuid.UUID("9a04f079-9840-4286-ab92-e65be0885f95"), "MSPR 2.0"
    ),
}


def pssh(system: str, kid: uuid.UUID) -> bytes:
    """The `pssh` box (ISO 23001-7) that tells a system which key to ask for."""
    data = _system_data(system, kid)
    body = SYSTEMS[system].id.bytes + len(data).to_bytes(4, "big") + data
    return (12 + len(body)).to_bytes(4, "big") + b"pssh" + bytes(4) + body


def _system_data(system: str, kid: uuid.UUID) -> bytes:
    if system == "widevine":
        return b"\x12\x10" + kid.bytes
    return _playready_object(kid)


def _playready_object(kid: uuid.UUID) -> bytes:
    header = (
        '<WRMHEADER xmlns="http://schemas.microsoft.com/DRM/2007/03/PlayReadyHeader"'
        ' version="4.0.0.0"><DATA><PROTECTINFO><KEYLEN>16</KEYLEN><ALGID>AESCTR</ALGID>'
        f"</PROTECTINFO><KID>{base64.b64encode(kid.bytes_le).decode()}</KID></DATA></WRMHEADER>"
    ).encode("utf-16-le")
    record = (1).to_bytes(2, "little") + len(header).to_bytes(2, "little") + header
    return (len(record) + 6).to_bytes(4, "little") + (1).to_bytes(2, "little") + record


def key_uri(system: DrmSystem, kid: uuid.UUID) -> str:
    """What the URI of an HLS key tag holds for this system: no two keys have the same."""
    if system == "clearkey":
        return f"{LICENCE_URL}?kid={kid.hex}"
    if system == "playready":
        encoded = base64.b64encode(_playready_object(kid)).decode()
        return f"data:text/plain;charset=UTF-16;base64,{encoded}"
    return f"data:text/plain;base64,{base64.b64encode(pssh(system, kid)).decode()}"
