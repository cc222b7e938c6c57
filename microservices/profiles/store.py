"""All profiles of an account in one row."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from chassis.storage import Tables
from chassis.storage.rewrite import Rewriter
from microservices.profiles.model import AccountProfiles, Group

T = TypeVar("T")


class ProfileStore:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._rewriter = Rewriter(tables)

    async def read(self, account_id: str) -> Group:
        row = await self._tables.get(AccountProfiles, account_id)
        return row.profiles if row is not None else ()

    async def change(self, account_id: str, decide: Callable[[Group], tuple[Group, T]]) -> T:
        """Runs a transition; its result, once durable."""

        def whole(row: AccountProfiles | None) -> tuple[AccountProfiles | None, T]:
            before = row.profiles if row is not None else ()
            after, result = decide(before)
            return AccountProfiles(account_id, after) if after else None, result

        return await self._rewriter.change(AccountProfiles, (account_id,), whole)
