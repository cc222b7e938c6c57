"""A server that also speaks TLS, for the tests of what its clients trust."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support import real
from tests.support.certificates import Authority
from tests.support.ports import free_port


@dataclass(frozen=True)
class Secured:
    """Its ports, the authority of its certificate, which is made out to `localhost`, and the
    authority of nothing here."""

    tls: int
    plain: int
    ca: Path
    other: Path

    def strangers(self, end: str) -> list[str]:
        """What stands behind `user:password@` in URLs by which it cannot be trusted; each ends in
        `end` and its options."""
        return [
            f"localhost:{self.tls}{end}ca={self.other}",
            f"127.0.0.1:{self.tls}{end}ca={self.ca}",
            f"localhost:{self.tls}{end}ca=",
        ]


@contextmanager
def secured(name: str, file: str, settings: str, folder: Path) -> Iterator[Secured]:
    """Starts it with `settings`, in which {port} and {certificate} are filled in."""
    (folder / "other").mkdir()
    authority, other = Authority(folder), Authority(folder / "other")
    certificate, key = authority.issue("localhost")
    both = folder / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    port = free_port()
    settings = settings.format(port=port, certificate=both)
    server = real.own(name, folder / "servers", extra=(file, settings))
    try:
        yield Secured(port, urlsplit(server.url).port or 0, authority.file, other.file)
    finally:
        server.stop()
