"""The operations of experiments; all of them inside."""

from __future__ import annotations

from chassis.contracts.profiles import (
    ALLOCATE,
    CREATE_TEST,
    END_TEST,
    LIST_TESTS,
    AllocateQuery,
    Allocation,
    EndTest,
    KnownTest,
    KnownTests,
    NewTest,
)
from chassis.contracts.wire import Nothing
from chassis.http.api import Api, Request
from microservices.experiments.model import known
from microservices.experiments.store import ExperimentStore


class ExperimentsApi:
    def __init__(self, store: ExperimentStore) -> None:
        self._store = store

    def mount(self, api: Api) -> None:
        api.call(ALLOCATE, self.allocate, at_once=True)
        api.call(CREATE_TEST, self.create)
        api.call(END_TEST, self.end)
        api.call(LIST_TESTS, self.list)

    async def allocate(self, request: Request, body: AllocateQuery) -> Allocation:
        """The account's cell in every test."""
        return Allocation(cells=dict(self._store.allocator.cells(body.account_id)))

    async def create(self, request: Request, body: NewTest) -> KnownTest:
        """Starts a test; repeating it changes nothing."""
        return known(await self._store.create(body))

    async def end(self, request: Request, body: EndTest) -> KnownTest:
        """Ends a test, with a winner for everybody or without."""
        return known(await self._store.end(body))

    async def list(self, request: Request, body: Nothing) -> KnownTests:
        """All tests, also those that have ended."""
        return KnownTests(tests=tuple(map(known, await self._store.all())))
