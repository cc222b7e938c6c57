"""Signature version 4 of a request without a body, as S3 wants it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

_EMPTY = hashlib.sha256(b"").hexdigest()


def signed(
    method: str, url: str, keys: Mapping[str, str], now: float, region: str
) -> dict[str, str]:
    """The headers that sign `method url`; `keys` are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,
    `now` is in seconds since the UNIX epoch. The URL has no query."""
    parts = urlsplit(url)
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    headers = {"host": parts.netloc, "x-amz-content-sha256": _EMPTY, "x-amz-date": stamp}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"{method}\n{parts.path or '/'}\n\n{lines}\n{names}\n{_EMPTY}"
    digest = hashlib.sha256(request.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    key = f"AWS4{keys['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return {
        **headers,
        "authorization": (
            f"AWS4-HMAC-SHA256 Credential={keys['AWS_ACCESS_KEY_ID']}/{scope},"
            f"SignedHeaders={names},Signature={signature}"
        ),
    }
