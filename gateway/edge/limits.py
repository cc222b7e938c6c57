"""What one listener allows. Sizes are bytes, times are seconds; every excess has its status."""

from __future__ import annotations

import msgspec

KIB = 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a listener. A rule may lower `body` for itself."""

    target: int = 16 * KIB  # 414
    head: int = 32 * KIB  # 431
    fields: int = 100  # 431
    body: int | None = None  # 413; None streams bodies of any size
    handshake_s: float = 5.0  # for a PROXY header and a TLS handshake, together
    arriving: int = 1_000  # connections in that state; beyond, the longest of them is cut
    head_s: float = 5.0  # 408
    body_rate: int = KIB  # 408, bytes a second over each `body_window_s`
    body_window_s: float = 10.0
    idle_s: float = 65.0
    stall_s: float = 65.0  # an answer that moves no byte for so long is cut
    stream_idle_s: float = 300.0  # the same of a tunnel or an event stream, which is ended
    linger_s: float = 2.0  # how long a refused client may go on sending before it is cut
    connections: int = 20_000
    backlog: int = 4_096  # connections that wait to be accepted
    requests: int = 4_000  # a connection
    age_s: float = 1_200.0  # a connection; plus up to a fifth, drawn per connection
    window: int = 64 * KIB  # buffered a direction a connection before reading stops
