"""The base of every wire type, and the one shape of a call between two services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """A value that crosses a process. Frozen; unknown fields are ignored on reading."""


NOT_DECODED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Everything that decoding somebody else's bytes may raise: besides what does not fit, text that is
not UTF-8, and nesting without end."""


class Nothing(Wire, frozen=True):
    """An empty request or answer."""


Req = TypeVar("Req", bound=Wire)
Ans = TypeVar("Ans", bound=Wire)


@dataclass(frozen=True, slots=True)
class Call(Generic[Req, Ans]):
    """One thing that one service asks another: always a POST of JSON to `path`.

    A 2xx answer decodes as `answer`; any other answer is an RFC 9457 problem.
    `idempotent` says that repeating it is harmless.
    """

    service: str
    name: str
    request: type[Req]
    answer: type[Ans]
    idempotent: bool = True

    @property
    def path(self) -> str:
        return f"/call/{self.name}"
