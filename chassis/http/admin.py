"""The admin port that every process has: alive, ready, version, metrics, its part of a trace."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import msgspec

from chassis.errors import Faulty, NotFound, StagedoorError
from chassis.http.api import MethodNotAllowed
from chassis.http.framing import Headers
from chassis.http.messages import Reply, told
from chassis.telemetry import Telemetry

_TEXT: Final = b"text/plain; charset=utf-8"
_METRICS_TYPE: Final = b"text/plain; version=1.0.0; charset=utf-8"
_TRACES: Final = "/traces/"

PAGES: Final = ("/live", "/ready", "/version", "/metrics", "/traces/{trace_id}")


class AdminPort:
    """An `Application` of a few pages, none of which changes anything.

    Most processes answer nothing but scrapes here, so it is built of as little as possible.
    """

    def __init__(self, telemetry: Telemetry, ready: Callable[[], bool], version: str) -> None:
        self._telemetry = telemetry
        self._ready = ready
        self._version = version
        self._pages: Mapping[str, Callable[[], Reply]] = {
            "/live": lambda: Reply(b"live\n", content_type=_TEXT),
            "/ready": self._readiness,
            "/version": self._told_version,
            "/metrics": lambda: Reply(telemetry.metrics.render(), content_type=_METRICS_TYPE),
        }

    def page(self, path: str) -> Reply:
        """`NotFound` when there is none."""
        page = self._pages.get(path)
        if page is not None:
            return page()
        if path.startswith(_TRACES):
            spans = self._telemetry.trace(path.removeprefix(_TRACES))
            return Reply(msgspec.json.encode(spans))
        raise NotFound(f"there is no {path[:200]} on the admin port", code="no_such_path")

    def _readiness(self) -> Reply:
        if self._ready():
            return Reply(b"ready\n", content_type=_TEXT)
        return Reply(b"not ready\n", 503, _TEXT)

    def _told_version(self) -> Reply:
        names = {"service": self._telemetry.service, "instance": self._telemetry.instance}
        return Reply(msgspec.json.encode({**names, "version": self._version}))

    async def answer(
        self, method: str, path: str, query: bytes, headers: Headers, body: bytes
    ) -> Reply:
        try:
            if method not in ("GET", "HEAD"):
                raise MethodNotAllowed(["GET"])
            return self.page(path)
        except StagedoorError as failure:
            return told(failure)

    def refuse(self, failure: StagedoorError) -> Reply:
        return told(failure)

    def call_of(self, path: bytes) -> None:
        """No service makes calls to this port."""

    def answer_call(self, called: Any, asked: Any, body: bytes) -> Coroutine[Any, Any, Reply]:
        raise Faulty("the admin port serves no calls")
