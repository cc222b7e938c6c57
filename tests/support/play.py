"""A Play API whose dependencies are scripted: each step answers, fails or hangs as told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from chassis.clock import ManualClock
from chassis.contracts.accounts import Entitlement, SignedEntitlement
from chassis.contracts.common import Limits, Maturity, Track
from chassis.contracts.events import Envelope
from chassis.contracts.profiles import Allocation, Profile
from chassis.contracts.streams import Lease, LicenceGrant, Manifest, Ranking
from chassis.contracts.titles import Playable, RightsDecision
from chassis.contracts.viewing import Bookmark, Suggestion, UpNext
from chassis.contracts.wire import Nothing
from chassis.http.api import Context
from chassis.identity import Seal


class Script:
    """Answers by step; `fail` and `hang` replace one until `heal`."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.seal: Seal | None = None
        self.asked: list[tuple[str, Any]] = []
        self.left: list[float] = []
        self._twists: dict[str, Callable[[], Any]] = {}
        self.entitlement = Entitlement(
            account_id="a1",
            plan="premium",
            status="active",
            country="US",
            limits=Limits(streams=5, max_height=2160, max_kbps=25_000, hdr=True),
            expires_at=clock.now() + 600,
        )
        now = clock.now()
        self.answers: dict[str, Any] = {
            "profiles": Profile(profile_id="p1", account_id="a1", name="Me"),
            "catalog": Playable(
                title_id="heat-1995",
                name="Heat",
                maturity=Maturity.ADULTS,
                duration_ms=10_200_000,
                released="1995-12-15",
                protected=True,
                max_height=2160,
                hdr=("hdr10",),
                codecs=("avc", "hevc"),
                audio=(Track(language="en"), Track(language="fr")),
            ),
            "experiments": Allocation(cells={"row": "b"}),
            "bookmarks": Bookmark(found=True, position_ms=61_000, duration_ms=10_200_000),
            "rights": RightsDecision(allowed=True, valid_until=now + 300),
            "sessions": Lease(
                session_id="s1",
                account_id="a1",
                profile_id="p1",
                device_id="tv",
                title_id="heat-1995",
                play_id="x",
                lease_ttl_s=60,
                heartbeat_s=20,
                acquired_at=now,
                expires_at=now + 60,
            ),
            "manifest": Manifest(
                hls="/v1/manifests/t.m3u8",
                dash="/v1/manifests/t.mpd",
                steering_url=None,
                signed_until=now + 20_000,
                max_height=1080,
                max_kbps=8_000,
            ),
            "licence": LicenceGrant(
                system="clearkey",
                licence_url="/v1/licence",
                licence_token="l",
                key_ids=("k1",),
                max_height=1080,
                expires_at=now + 300,
            ),
            "steering": Ranking(pathways=("cdn-b",), ttl_s=60, steering_url="/v1/steering/x"),
            "recommendations": UpNext(suggestion=Suggestion(title_id="ronin-1998", name="Ronin")),
            "give_back": Nothing(),
            "reconcile": Nothing(),
        }

    def asks(self) -> dict[str, Any]:
        return {step: self._ask(step) for step in ("membership", *self.answers)}

    def _ask(self, step: str) -> Any:
        async def ask(question: Any, context: Context) -> Any:
            self.asked.append((step, question))
            self.left.append(context.deadline.check(step))
            if step in self._twists:
                return await self._twists[step]()
            return self._answer(step)

        return ask

    def _answer(self, step: str) -> Any:
        if step == "membership":
            assert self.seal is not None
            return SignedEntitlement(
                snapshot=self.seal.seal("entitlement", self.entitlement, ttl_s=600)
            )
        return self.answers[step]

    def fail(self, step: str, failure: Exception) -> None:
        async def raise_it() -> Any:
            raise failure

        self._twists[step] = raise_it

    def hang(self, step: str) -> asyncio.Event:
        """The step waits for ever; the event is set when it was cancelled."""
        cancelled = asyncio.Event()

        async def wait() -> Any:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                cancelled.set()

        self._twists[step] = wait
        return cancelled

    def heal(self, step: str) -> None:
        self._twists.pop(step, None)

    def questions(self, step: str) -> list[Any]:
        return [question for asked, question in self.asked if asked == step]


class ListLog:
    """A log that nobody reads; the spool in front of it is real."""

    def __init__(self) -> None:
        self.produced: list[Any] = []

    async def ensure(self, *topics: Any) -> None:
        pass

    async def produce(self, messages: Any) -> list[tuple[int, int]]:
        self.produced += messages
        return [(0, index) for index, _ in enumerate(messages)]

    async def close(self) -> None:
        pass

    def envelopes(self) -> list[Envelope]:
        import msgspec

        return [msgspec.json.decode(one.value, type=Envelope) for one in self.produced]
