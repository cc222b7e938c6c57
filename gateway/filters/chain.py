"""What a filter is, and how a chain of them runs.

A chain is a tuple; an empty one costs one truth test, a filter that does not wait costs one call.
Only where `apply` returns an awaitable does the exchange go on in a task.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, ClassVar, TypeAlias

if TYPE_CHECKING:
    from gateway.exchange import Exchange


class Phase(enum.Enum):
    """When a filter runs."""

    INBOUND = "inbound"  # before the upstream is asked
    OUTBOUND = "outbound"  # on the answer's head, before the client sees it


class Filter:
    """One unit of gateway logic.

    Lower `order` runs first; the built-in ones are below zero. `apply` may read and edit the
    exchange, end it with `exchange.reply(...)`, or refuse it by raising out of the failure tree.
    Returning an awaitable makes the exchange wait for it. Anything else that it raises is a 500:
    a request never passes unfiltered.
    """

    name: ClassVar[str] = ""
    phase: ClassVar[Phase] = Phase.INBOUND
    order: ClassVar[int] = 0

    def applies(self, exchange: Exchange) -> bool:
        """Whether `apply` is called for this exchange."""
        return True

    def apply(self, exchange: Exchange) -> Awaitable[None] | None:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.phase.value}, {self.order})"


Chain: TypeAlias = tuple[Filter, ...]


def chain(filters: Iterable[Filter], phase: Phase) -> Chain:
    """Those of one phase, in their order."""
    return tuple(sorted((f for f in filters if f.phase is phase), key=lambda f: f.order))


def run(filters: Chain, exchange: Exchange, start: int = 0) -> Awaitable[None] | None:
    """Runs the filters from `start` on; what is returned, if anything, runs the rest.

    A filter that answers the exchange ends the chain.
    """
    for at in range(start, len(filters)):
        step = filters[at]
        if step.applies(exchange):
            waiting = step.apply(exchange)
            if waiting is not None:
                return _rest(waiting, filters, exchange, at + 1)
            if exchange.status:
                break
    return None


async def _rest(waiting: Awaitable[None], filters: Chain, exchange: Exchange, start: int) -> None:
    await waiting
    if exchange.is_answered:
        return
    more = run(filters, exchange, start)
    if more is not None:
        await more
