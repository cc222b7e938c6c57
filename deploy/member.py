"""A member and a player, as a client of the gateway: what `demo`, `play` and `load` are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from chassis.clock import Clock
from chassis.errors import ConnectFailed, PeerRefusal, StagedoorError
from chassis.http.transport import Transport

PASSWORD_BYTES = 12


class Member:
    """One signed-up account at the gateway `url`; `token` is sent with every request."""

    def __init__(self, url: str, clock: Clock, *, transport: Transport | None = None) -> None:
        self.url = url
        self.clock = clock
        self.token = ""
        self.account_id = ""
        self.profile_id = ""
        self.email = ""
        self._password = ""
        self._http = httpx.AsyncClient(
            base_url=url, transport=transport or Transport(clock=clock), timeout=10
        )

    async def sign_up(self, *, country: str = "US", plan: str = "premium") -> None:
        """A fresh account with one profile, and a token for it."""
        self.email = f"viewer-{self.clock.entropy(8).hex()}@example.org"
        self._password = self.clock.entropy(PASSWORD_BYTES).hex()
        account = await self.ask(
            "POST",
            "/v1/accounts",
            {"email": self.email, "password": self._password, "country": country, "plan": plan},
        )
        self.account_id, self.profile_id = account["account_id"], account["profile_id"]
        await self.sign_in(device_id="sign-up")

    async def sign_in(self, *, device_id: str) -> None:
        answer = await self.ask(
            "POST",
            "/v1/token",
            {
                "grant_type": "password",
                "email": self.email,
                "password": self._password,
                "device_id": device_id,
                "profile_id": self.profile_id,
            },
        )
        self.token = answer["access_token"]

    async def find(self, words: str) -> dict[str, Any]:
        """The best known title that matches `words`; `StagedoorError` when none does."""
        found = await self.ask("GET", f"/v1/titles?{httpx.QueryParams(q=words)}")
        if not found["titles"]:
            raise StagedoorError(f"no title matches {words!r}; try another word of its name")
        chosen: dict[str, Any] = found["titles"][0]
        return chosen

    async def play(self, title_id: str, device_id: str, **more: Any) -> httpx.Response:
        """The raw answer of `POST /v1/play`."""
        return await self.send(
            "POST", "/v1/play", play_body(self.profile_id, title_id, device_id, **more)
        )

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer; `PeerRefusal` carries the problem of any status of 400 or above."""
        response = await self.send(method, path, body)
        if response.status_code >= 400:
            raise _refusal(response)
        return msgspec.json.decode(response.content) if response.content else None

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        sent = {"authorization": f"Bearer {self.token}"} if self.token else {}
        sent.update(headers or {})
        content = None
        if body is not None:
            content = msgspec.json.encode(body)
            sent["content-type"] = "application/json"
        try:
            return await self._http.request(method, path, content=content, headers=sent)
        except httpx.TransportError as fault:
            raise ConnectFailed(
                f"no answer from the gateway at {self.url} ({type(fault).__name__});"
                " is `make run` up?"
            ) from None

    async def close(self) -> None:
        await self._http.aclose()


def play_body(profile_id: str, title_id: str, device_id: str, **more: Any) -> dict[str, Any]:
    """A Play request as a good television would send it."""
    device = {
        "id": device_id,
        "type": "tv",
        "os": "linux",
        "max_height": 2160,
        "hdr": ["hdr10"],
        "codecs": ["avc", "hevc"],
        "drm": {"system": "clearkey", "level": "L3"},
        "hdcp": "2.2",
    }
    network = {"type": "wifi", "downlink_kbps": 40_000}
    return {
        "title_id": title_id,
        "profile_id": profile_id,
        "device": device,
        "network": network,
        **more,
    }


def player_event(
    session: Mapping[str, Any], seq: int, kind: str, position_ms: int, at: float
) -> dict[str, Any]:
    """One event as a player reports it; `session` is what `watching` made of a Play's answer."""
    return {
        **session,
        "seq": seq,
        "kind": kind,
        "position_ms": position_ms,
        "at_ms": int(at * 1000),
    }


def watching(
    answer: Mapping[str, Any], profile_id: str, device_id: str, country: str
) -> dict[str, Any]:
    """What all events of one session have in common."""
    return {
        "session_id": answer["session"]["id"],
        "play_id": answer["play_id"],
        "profile_id": profile_id,
        "title_id": answer["title_id"],
        "duration_ms": answer["duration_ms"],
        "device_type": "tv",
        "device_id": device_id,
        "country": country,
    }


def decoded(response: httpx.Response) -> dict[str, Any]:
    """The object in an answer's body; empty when there is none."""
    try:
        value = response.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _refusal(response: httpx.Response) -> PeerRefusal:
    problem = decoded(response)
    detail = f"{response.request.method} {response.request.url.path}: {response.status_code} "
    detail += f"{problem.get('code', '')}: {problem.get('detail', response.text[:200])}"
    return PeerRefusal(response.status_code, problem.get("code", "unknown"), detail)
