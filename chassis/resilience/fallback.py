"""The degraded answer: a chain of ever poorer ones, and always a tag that says so.

A fallback never hides what the callee answered on purpose: its own 4xx passes through.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from msgspec import Struct

from chassis.errors import Faulty, RequestFailure, StagedoorError

T = TypeVar("T")


class FallbackConfig(Struct, frozen=True):
    """At most `limit` asynchronous fallbacks at once: a store that stands in may fail as well."""

    limit: int = 64


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A value and where it came from. `source` None: the call itself; else `code` says why not."""

    value: T
    source: str | None = None
    code: str | None = None

    @property
    def degraded(self) -> bool:
        return self.source is not None


@dataclass(frozen=True, slots=True)
class Option(Generic[T]):
    """One link of the chain: `give(failure, *args)`, or its awaitable; raise to pass on."""

    source: str
    give: Callable[..., T | Awaitable[T]]


class Fallback(Generic[T]):
    """The gate: tries the call, then each option in order."""

    def __init__(
        self, name: str, *options: Option[T], config: FallbackConfig | None = None
    ) -> None:
        self.name = name
        self.options = options
        self.config = config or FallbackConfig()
        self.in_flight = 0
        self.rejected = 0
        self.counts: dict[str, int] = {option.source: 0 for option in options}
        self.missed = 0

    async def call(self, fn: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> Answer[T]:
        """Options get the failure and `args`; `kwargs` go to `fn` only."""
        try:
            return Answer(await fn(*args, **kwargs))
        except (RequestFailure, Faulty):
            raise
        except Exception as failure:
            return await self._instead(failure, args)

    async def _instead(self, failure: Exception, args: tuple[Any, ...]) -> Answer[T]:
        if self.in_flight >= self.config.limit:
            self.rejected += 1
            raise failure
        self.in_flight += 1
        try:
            for option in self.options:
                try:
                    given = option.give(failure, *args)
                    value: Any = await given if inspect.isawaitable(given) else given
                except Exception:
                    continue
                self.counts[option.source] += 1
                return Answer(value, option.source, _code(failure))
        finally:
            self.in_flight -= 1
        self.missed += 1
        raise failure

    def __repr__(self) -> str:
        given = ", ".join(f"{source} {count}" for source, count in self.counts.items())
        return f"Fallback({self.name}: {given or 'nothing'})"


def _code(failure: Exception) -> str:
    return failure.code if isinstance(failure, StagedoorError) else "internal"
