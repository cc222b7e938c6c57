"""`POST /v1/play`: reads the request, sheds what must wait, and words the answer."""

from __future__ import annotations

import msgspec

from chassis.clock import Clock
from chassis.contracts.play import PlayAnswer, PlayRequest
from chassis.contracts.profiles import PinToken
from chassis.errors import BadRequest, Forbidden, Shed, StagedoorError, Unauthenticated
from chassis.http.api import Api, Reply, Request
from chassis.identity import Seal
from chassis.telemetry import Telemetry
from play_api.play import Play, check_request, play_id_of
from play_api.playback import Playback

KEY_LIMIT = 128


class TooManyPlays(Shed):
    """There is no room now; the caller should come back, and is told so as 429."""

    status = 429


class PlayApi:
    """The operation and its admission. Prefetches may use `prefetch_share` of the capacity."""

    def __init__(
        self,
        playback: Playback,
        seal: Seal,
        clock: Clock,
        telemetry: Telemetry,
        *,
        capacity: int = 512,
        prefetch_share: float = 0.5,
    ) -> None:
        self._playback = playback
        self._seal = seal
        self._clock = clock
        self._capacity = capacity
        self._prefetch_capacity = int(capacity * prefetch_share)
        self._in_flight = 0
        self._requests = telemetry.metrics.counter(
            "play_requests_total", "Plays by outcome.", ("outcome", "degraded")
        )
        self._starts = telemetry.metrics.counter(
            "play_starts_total", "Plays answered.", ("region", "device")
        )

    def mount(self, api: Api) -> None:
        api.route("POST", "/v1/play", self.play, request=PlayRequest, answer=PlayAnswer)

    async def play(self, request: Request, body: PlayRequest) -> Reply:
        """Everything a player needs to start a title, or why it may not."""
        outcome, degraded = "client_gone", "false"
        try:
            answer = await self._admitted(request, body)
            outcome, degraded = "success", str(bool(answer.degraded)).lower()
            return _reply(answer, request)
        except Exception as failure:
            outcome = failure.outcome if isinstance(failure, StagedoorError) else "local_error"
            raise
        finally:
            self._requests.child(outcome, degraded).n += 1

    async def _admitted(self, request: Request, body: PlayRequest) -> PlayAnswer:
        self._admit(request)
        self._in_flight += 1
        try:
            play = self._read(request, body)
            request.notes["play_id"] = play.play_id
            answer = await self._playback.play(play, request.context)
        finally:
            self._in_flight -= 1
        self._starts.child(play.entitlement.country, body.device.type).n += 1
        return answer

    def _admit(self, request: Request) -> None:
        prefetch = request.header(b"x-play-intent") == "prefetch"
        room = self._prefetch_capacity if prefetch else self._capacity
        if self._in_flight >= room:
            raise TooManyPlays("too many plays at once; try again shortly", retry_after_s=1)

    def _read(self, request: Request, body: PlayRequest) -> Play:
        check_request(body)
        passport = request.passport
        key = request.header(b"idempotency-key") or self._clock.entropy(16).hex()
        if len(key) > KEY_LIMIT:
            raise BadRequest(f"Idempotency-Key must have at most {KEY_LIMIT} characters")
        return Play(
            body,
            passport,
            play_id=play_id_of(passport.account_id, key),
            idempotency_key=key,
            attempt=request.context.trace.span_id,
            trace_id=request.context.trace.trace_id,
            pin_checked=self._pin_checked(passport.account_id, body),
        )

    def _pin_checked(self, account_id: str, body: PlayRequest) -> bool:
        if body.pin_token is None:
            return False
        try:
            checked = self._seal.open("pin", body.pin_token, PinToken)
        except Unauthenticated as fault:
            raise Forbidden(
                f"the pin_token does not open: {fault.detail}",
                code="maturity",
                members={"pin_required": True},
            ) from None
        return checked == PinToken(account_id=account_id, profile_id=body.profile_id)


def _reply(answer: PlayAnswer, request: Request) -> Reply:
    headers = [(b"cache-control", b"no-store")]
    if answer.degraded:
        parts = ",".join(sorted({one.part for one in answer.degraded}))
        request.notes["degraded"] = parts
        headers.append((b"x-degraded", parts.encode()))
    return Reply(msgspec.json.encode(answer), headers=headers)
