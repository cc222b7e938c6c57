"""Reason phrases for the statuses that the gateway answers with by itself."""

from __future__ import annotations

import http


def reason(status: int) -> bytes:
    try:
        return http.HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"
