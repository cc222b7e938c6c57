"""Whether the process of this container is ready: `python -m deploy.healthy` ends with 0 or 1.

It asks `/ready` of the admin port that the same environment gives the process. It imports next to
nothing, because containers ask every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping


def admin_address(environ: Mapping[str, str]) -> str:
    """`host:port`: STAGEDOOR_ADMIN for a gateway, STAGEDOOR_HOST and STAGEDOOR_ADMIN_PORT else."""
    given = environ.get("STAGEDOOR_ADMIN")
    if given:
        return given
    host, port = environ.get("STAGEDOOR_HOST", "127.0.0.1"), environ.get("STAGEDOOR_ADMIN_PORT")
    if not port:
        raise SystemExit("set STAGEDOOR_ADMIN_PORT: without it nobody knows whom to ask")
    return f"{host}:{port}"


def is_ready(address: str, timeout_s: float = 2.0) -> bool:
    asking = http.client.HTTPConnection(address, timeout=timeout_s)
    try:
        asking.request("GET", "/ready")
        return asking.getresponse().status == 200
    except OSError:
        return False
    finally:
        asking.close()


if __name__ == "__main__":
    sys.exit(0 if is_ready(admin_address(os.environ)) else 1)
