"""The operations of bookmarks."""

from __future__ import annotations

from chassis.clock import Clock
from chassis.contracts.viewing import (
    BOOKMARK,
    Bookmark,
    BookmarkChange,
    BookmarkItem,
    BookmarkPage,
    BookmarkQuery,
)
from chassis.errors import NotFound
from chassis.http.api import Api, Request
from microservices.bookmarks import model
from microservices.bookmarks.store import BookmarkStore


class BookmarkApi:
    def __init__(self, store: BookmarkStore, clock: Clock, source: str) -> None:
        self._store = store
        self._clock = clock
        self._source = source

    def mount(self, api: Api) -> None:
        api.call(BOOKMARK, self.get, at_once=True)
        api.route("GET", "/v1/bookmarks", self.list, answer=BookmarkPage)
        api.route("GET", "/v1/bookmarks/{title_id}", self.one, answer=BookmarkItem)
        api.route(
            "PUT",
            "/v1/bookmarks/{title_id}",
            self.change,
            request=BookmarkChange,
            answer=BookmarkItem,
            status=202,
        )

    async def get(self, request: Request, body: BookmarkQuery) -> Bookmark:
        """Where a profile goes on with a title."""
        return model.bookmark(await self._store.get(body.profile_id, body.title_id))

    async def list(self, request: Request) -> BookmarkPage:
        """What to go on with, newest first."""
        limit = model.page_size(request.query("limit"))
        after = model.open_mark(request.query("after"))
        return model.page(await self._store.all(request.passport.profile), limit, after)

    async def one(self, request: Request) -> BookmarkItem:
        """Where the profile stands in one title."""
        row = await self._store.get(request.passport.profile, request.params["title_id"])
        if row is None:
            raise NotFound("this profile never watched the title", code="bookmark_unknown")
        return model.item(row)

    async def change(self, request: Request, body: BookmarkChange) -> BookmarkItem:
        """Sets the position; seen in the view once the stream has folded it."""
        title_id = request.params["title_id"]
        row = await self._store.get(request.passport.profile, title_id)
        session_id = f"bookmark-{self._clock.entropy(12).hex()}"
        now_ms = int(self._clock.now() * 1000)
        event = model.moved(row, body, request.passport, title_id, session_id, now_ms)
        traceparent = request.context.trace.header().decode()
        await self._store.tell(model.envelope_of(event, self._source, traceparent))
        return BookmarkItem(
            title_id=title_id,
            position_ms=event.position_ms,
            duration_ms=event.duration_ms,
            updated_ms=now_ms,
            episode_id=event.episode_id,
        )
