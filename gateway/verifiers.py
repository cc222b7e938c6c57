"""The token verifiers of the rules' auth policies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from chassis.clock import Clock
from chassis.deadline import Deadline
from chassis.errors import ConfigurationFault, StoreUnavailable
from chassis.http.client import Client
from chassis.identity import Jwks, TokenPolicy, TokenVerifier
from gateway.origins import Origins
from gateway.rules.model import AuthPolicy, JwksSource

_FETCH_S = 2.0

Fetch = Callable[[], Awaitable[bytes]]


class Verifiers:
    """One verifier a policy; a policy that a new snapshot leaves as it was keeps its cache."""

    def __init__(self, client: Client, origins: Origins, clock: Clock, folder: Path) -> None:
        """`folder` is where relative file names of the rules begin."""
        self._folder = folder
        self._client = client
        self._origins = origins
        self._clock = clock
        self._verifiers: dict[AuthPolicy, TokenVerifier] = {}

    def of(self, policy: AuthPolicy) -> TokenVerifier:
        verifier = self._verifiers.get(policy)
        if verifier is None:
            wanted = TokenPolicy(
                issuer=policy.issuer,
                audience=policy.audience,
                algorithms=tuple(policy.algorithms),
                leeway_s=policy.leeway_s,
            )
            jwks = Jwks(self._fetch(policy.jwks or JwksSource()), self._clock)
            verifier = self._verifiers[policy] = TokenVerifier(wanted, jwks, self._clock)
        return verifier

    def _fetch(self, source: JwksSource) -> Fetch:
        if source.file is not None:
            file = self._folder / source.file
            return lambda: asyncio.to_thread(file.read_bytes)
        if source.url is not None:
            url = source.url
            return lambda: self._get(url)
        if source.cluster is not None:
            cluster = source.cluster
            return lambda: self._get(self._address(cluster) + source.path)
        raise ConfigurationFault(["an auth policy's jwks needs a file, a url or a cluster"])

    def _address(self, cluster: str) -> str:
        return f"http://{self._origins[cluster].pick(self._clock.monotonic()).address}"

    async def _get(self, url: str) -> bytes:
        deadline = Deadline.after(self._clock, _FETCH_S)
        answer = await self._client.request("GET", url, deadline=deadline)
        if answer.status != 200:
            raise StoreUnavailable(f"{url} answered {answer.status}", code="jwks")
        return answer.body
