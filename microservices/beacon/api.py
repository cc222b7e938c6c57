"""The operation of beacon."""

from __future__ import annotations

from chassis.clock import Clock
from chassis.contracts.events import PlayerEvent
from chassis.contracts.viewing import EventReceipt, RejectedEvent
from chassis.errors import BadRequest, Unprocessable
from chassis.http.api import Api, Request
from chassis.telemetry.metrics import Metrics
from microservices.beacon.model import BATCH_LIMIT, RawBatch, fault_of, parse
from microservices.beacon.store import BeaconStore


class BeaconApi:
    def __init__(self, store: BeaconStore, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._clock = clock
        results = metrics.counter("beacon_events_total", "Player events by result.", ("result",))
        self._accepted = results.child("accepted")
        self._coalesced = results.child("coalesced")
        self._rejected = results.child("rejected")

    def mount(self, api: Api) -> None:
        api.route(
            "POST", "/v1/events", self.tell, request=RawBatch, answer=EventReceipt, status=202
        )

    async def tell(self, request: Request, body: RawBatch) -> EventReceipt:
        """Takes up to 500 player events of one profile; those accepted are on disk."""
        if not 0 < len(body.events) <= BATCH_LIMIT:
            raise BadRequest(f"send 1 to {BATCH_LIMIT} events at once", code="batch_size")
        events, rejected = self._sort(body, request.passport.profile)
        self._rejected.n += len(rejected)
        if not events:
            raise Unprocessable(
                f"none of {len(rejected)} events can be accepted; {rejected[0].reason}",
                code="no_event_accepted",
                members={"rejected": rejected},
            )
        traceparent = request.context.trace.header().decode()
        coalesced = await self._store.keep(events, request.passport, traceparent)
        self._accepted.n += len(events)
        self._coalesced.n += coalesced
        request.notes["events"] = len(events)
        return EventReceipt(accepted=len(events), coalesced=coalesced, rejected=tuple(rejected))

    def _sort(
        self, body: RawBatch, profile_id: str
    ) -> tuple[list[PlayerEvent], list[RejectedEvent]]:
        now_ms = int(self._clock.now() * 1000)
        events: list[PlayerEvent] = []
        rejected: list[RejectedEvent] = []
        for index, raw in enumerate(body.events):
            event = parse(raw)
            reason = event if isinstance(event, str) else fault_of(event, profile_id, now_ms)
            if isinstance(event, str) or reason is not None:
                rejected.append(RejectedEvent(index=index, reason=str(reason)))
            else:
                events.append(event)
        return events, rejected
