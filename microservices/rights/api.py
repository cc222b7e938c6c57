"""The operations on rights."""

from __future__ import annotations

from chassis.clock import Clock
from chassis.contracts.titles import DECIDE, SET_WINDOW, RightsDecision, RightsQuery, Window
from chassis.contracts.wire import Nothing
from chassis.http.api import Api, Request
from microservices.rights.model import check_window, decide
from microservices.rights.store import RightsStore


class RightsApi:
    """May this be shown here, now, so?"""

    def __init__(self, store: RightsStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def mount(self, api: Api) -> None:
        api.call(DECIDE, self.decide, at_once=True)
        api.call(SET_WINDOW, self.set_window)

    async def decide(self, request: Request, query: RightsQuery) -> RightsDecision:
        """Allow or deny, with the caps that hold until `valid_until`."""
        return decide(self._store.windows(query.title_id), query, self._clock.now())

    async def set_window(self, request: Request, window: Window) -> Nothing:
        """Admin: sets the window of a title in one territory."""
        check_window(window)
        await self._store.set(window)
        return Nothing()
