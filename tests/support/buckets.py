"""Buckets of the real S3 server that nobody used before; the adapter itself makes them."""

from __future__ import annotations

import os
import secrets
from urllib.parse import parse_qs, urlsplit


def endpoint() -> str:
    """`http://host:port` of the session's S3 server; its keys are in this process's environment."""
    return parse_qs(urlsplit(_url()).query)["endpoint"][0]


def fresh(**options: str) -> str:
    """The URL of a bucket that is made at first use, at the session's server unless `endpoint`."""
    return url(f"t-{secrets.token_hex(6)}", **{"create": "yes", **options})


def url(bucket: str, **options: str) -> str:
    """A bucket's URL, at the session's server unless `endpoint`."""
    given = {"endpoint": options.get("endpoint") or endpoint(), **options}
    return f"s3://{bucket}?" + "&".join(f"{name}={value}" for name, value in given.items())


def _url() -> str:
    given = os.environ.get("STAGEDOOR_TEST_S3")
    if given:
        return given
    from tests.support import real

    return real.url("s3")
