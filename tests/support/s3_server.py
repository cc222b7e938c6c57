"""An S3 server of a few lines that does as a test says: it looks at no signature.

```python
async with S3Server() as server:
    server.next_puts += [lost, busy]     # what happens to the next PUTs, one each
    server.next_completions += [busy]    # and to the next uploads in parts, at their end
    server.conditions = False            # If-None-Match and If-Match are ignored from now on
```
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from tests.support.listening import Listening

TOKEN = "x-amz-meta-stagedoor-write"


@dataclass
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Stored:
    body: bytes
    token: str

    @property
    def tag(self) -> str:
        return f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"'


Answer = tuple[int, dict[str, str], bytes] | None
Put = Callable[["S3Server", Request], Answer]


def put(server: S3Server, request: Request) -> Answer:
    """As a server does it."""
    there = server.objects.get(request.path)
    if server.conditions:
        if "if-none-match" in request.headers and there is not None:
            return fault(412, "PreconditionFailed")
        if "if-match" in request.headers and there is None:
            return fault(404, "NoSuchKey")
        if there is not None and request.headers.get("if-match", there.tag) != there.tag:
            return fault(412, "PreconditionFailed")
    stored = Stored(request.body, request.headers.get(TOKEN, ""))
    server.objects[request.path] = stored
    return 200, {"ETag": stored.tag}, b""


def complete(server: S3Server, request: Request) -> Answer:
    """Makes one object of what was uploaded for it in parts."""
    if "if-none-match" in request.headers and request.path in server.objects:
        return fault(412, "PreconditionFailed")
    stored = server.objects[request.path] = Stored(server.parts.pop(request.path), "")
    return 200, {}, f"<Result><ETag>{stored.tag}</ETag></Result>".encode()


def completed_by_another(server: S3Server, request: Request) -> Answer:
    """Somebody else completes the same bytes at this moment, and this one hears of a conflict."""
    server.objects[request.path] = Stored(server.parts[request.path], "")
    return contended(server, request)


def lost(server: S3Server, request: Request) -> Answer:
    """Stores it and closes the connection instead of answering."""
    put(server, request)
    return None


def broken(server: S3Server, request: Request) -> Answer:
    """Stores it and says 500."""
    put(server, request)
    return fault(500, "InternalError")


def slow_down(server: S3Server, request: Request) -> Answer:
    return fault(503, "SlowDown")


def contended(server: S3Server, request: Request) -> Answer:
    return fault(409, "ConditionalRequestConflict")


def late(server: S3Server, request: Request) -> Answer:
    """Says 500 now and stores it just before the next PUT is looked at."""
    server.delayed = request
    return fault(500, "InternalError")


def withdrawn(server: S3Server, request: Request) -> Answer:
    """As a server does it, but at once somebody removes what is there then."""
    answer = put(server, request)
    server.objects.pop(request.path, None)
    return answer


def refused(server: S3Server, request: Request) -> Answer:
    """A conflict that is none of objects."""
    return fault(409, "InvalidBucketState")


def outrun(server: S3Server, request: Request) -> Answer:
    """Somebody else stores first, and this one hears 500."""
    server.objects[request.path] = Stored(b"theirs", "their-token")
    return fault(500, "InternalError")


def fault(status: int, code: str) -> Answer:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    return status, {"Content-Type": "application/xml"}, body


@dataclass
class S3Server(Listening):
    """The server itself. `objects` are by path, bucket first."""

    conditions: bool = True
    next_puts: list[Put] = field(default_factory=list)
    next_completions: list[Put] = field(default_factory=list)
    parts: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, Stored] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    delayed: Request | None = None

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.port}"

    def count(self, method: str) -> int:
        return sum(request.method == method for request in self.requests)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, self.host, 0, limit=1 << 26)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _read(reader):
                self.requests.append(request)
                answer = self._answer(request)
                if answer is None:
                    break
                writer.write(_wire(request.method, *answer))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answer(self, request: Request) -> Answer:
        if request.method == "POST" and request.query.startswith("uploads"):
            self.parts[request.path] = b""
            return 200, {}, b"<Result><UploadId>upload</UploadId></Result>"
        if request.method == "POST":
            do = self.next_completions.pop(0) if self.next_completions else complete
            return do(self, request)
        if "uploadId" in request.query:
            return self._part(request)
        if request.method == "PUT":
            if self.delayed is not None:
                arrived, self.delayed = self.delayed, None
                put(self, arrived)
            do = self.next_puts.pop(0) if self.next_puts else put
            return do(self, request)
        if "list-type" in request.query:
            return 200, {}, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
        if request.method == "DELETE":
            self.objects.pop(request.path, None)
            return 204, {}, b""
        stored = self.objects.get(request.path)
        if stored is None:
            return fault(404, "NoSuchKey")
        return 200, {"ETag": stored.tag, TOKEN: stored.token, **_DATED}, stored.body

    def _part(self, request: Request) -> Answer:
        """Keeps a part, or what it is a copy of; or drops them all."""
        if request.method == "DELETE":
            return 204, {}, b""
        source = unquote(request.headers.get("x-amz-copy-source", "")).strip("/")
        self.parts[request.path] += self.objects[source].body if source else request.body
        return 200, {"ETag": '"part"'}, b"<Result><ETag>part</ETag></Result>"


_DATED = {"Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT"}


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    return Request(method, unquote(parts.path).strip("/"), parts.query, headers, body)


def _wire(method: str, status: int, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    sent = b"" if method == "HEAD" else body
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + sent
