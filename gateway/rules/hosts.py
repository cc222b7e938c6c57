"""Hosts as rules write them: exact, `*.` before labels, or any."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LABELS = re.compile(
    r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\Z"
)
_ADDRESS = re.compile(r"\[[0-9a-f:.]+\]\Z")


@dataclass(frozen=True, slots=True)
class HostSpec:
    """`suffix` is `.example.com` for a wildcard; a wildcard stands for one or more labels."""

    text: str
    exact: bytes | None = None
    suffix: bytes | None = None

    @property
    def rank(self) -> tuple[int, int]:
        """Exact first, then the longer wildcard, then any."""
        if self.exact is not None:
            return (0, 0)
        return (1, -len(self.suffix or b""))

    def fits(self, host: bytes) -> bool:
        if self.exact is not None:
            return host == self.exact
        if self.suffix is None:
            return True
        return host.endswith(self.suffix) and len(host) > len(self.suffix)

    def __str__(self) -> str:
        return self.text


ANY = HostSpec("*")


def host_spec(text: str) -> HostSpec:
    """Lower-case, without port; `*` is any host."""
    if text == "*":
        return ANY
    name = text.removeprefix("*.")
    if len(name) > 253 or not (_LABELS.match(name) or (_ADDRESS.match(name) and name == text)):
        raise ValueError(
            f"host {text!r} must be a lower-case name without port, or '*.' before one"
        )
    if text.startswith("*."):
        return HostSpec(text, suffix=text[1:].encode())
    return HostSpec(text, exact=text.encode())
