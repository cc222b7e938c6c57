"""What a gateway may be told to listen on, and every way to get it wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from chassis.errors import ConfigurationFault
from gateway.edge.certificates import Pair, Tls
from gateway.edge.limits import Limits
from gateway.edge.listen import Listen, listens
from gateway.edge.peer import NOBODY, trust_of


def one(text: str, limits: Limits | None = None) -> Listen:
    (found,) = listens(text, limits or Limits(), NOBODY)
    return found


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("localhost:0", "localhost", 0),
        ("gateway-1:80", "gateway-1", 80),
        ("[::1]:8080", "::1", 8080),
        ("tcp://[::]:65535", "::", 65_535),
        ("tls://[fe80::1%eth0]:1?cert=c", "fe80::1%eth0", 1),
        ("tcp://127.0.0.1:80/", "127.0.0.1", 80),
    ],
)
def test_where_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    found = one(text)
    assert (found.host, found.port, found.path) == (host, port, None)


def test_pairs_keep_their_order_and_a_file_may_hold_both() -> None:
    found = one("tls://127.0.0.1:1?cert=a.pem&key=a.key&cert=both.pem&client_ca=ca.pem")
    assert found.tls == Tls(
        pairs=(
            Pair(Path("a.pem"), Path("a.key")),
            Pair(Path("both.pem"), Path("both.pem")),
        ),
        client="required",
        client_ca=Path("ca.pem"),
    )


def test_a_unix_socket_has_a_path_and_a_mode() -> None:
    found = one("unix:///run/a%20b.sock?mode=600&proxy=all")
    assert (found.path, found.mode) == (Path("/run/a b.sock"), 0o600)
    assert found.balancers is not None and found.balancers.everybody
    assert one("unix:///run/s").mode == 0o660


def test_limits_are_the_gateways_but_for_those_given() -> None:
    found = one("tcp://127.0.0.1:1?head_s=1.5&connections=7", Limits(idle_s=3, head_s=9))
    assert found.limits == Limits(idle_s=3, head_s=1.5, connections=7)


def test_trust_is_the_gateways_unless_given() -> None:
    trust = trust_of(["10.0.0.0/8"])
    texts = (
        "127.0.0.1:1 tcp://127.0.0.1:2?trust=192.0.2.0/24,unix tcp://127.0.0.1:3?hops=1 "
        "tcp://127.0.0.1:4?trust="
    )
    default, own, hops, nobody = listens(texts, Limits(), trust)
    assert default.trust is trust
    assert own.trust.covers("192.0.2.1") and own.trust.covers("unix")
    assert not own.trust.covers("10.0.0.1")
    assert hops.trust.covers("203.0.113.9") and not hops.trust.covers("203.0.113.9", 1)
    assert not nobody.trust.covers("10.0.0.1")


def test_a_name_tells_no_files() -> None:
    assert one("tls://127.0.0.1:1?cert=a.pem&key=secret.key").name == "tls://127.0.0.1:1"


WRONG = {
    "": "nothing to listen on",
    "8080": "write host:port",
    ":8080": "write host:port",
    "::1:8080": r"write host:port, for example .*\[::1\]:8080",
    "a:99999": "no port 99999",
    "127.0.0.1:http": "write host:port",
    "http://127.0.0.1:80": "begins with one of tcp://, tls://, unix://",
    "127.0.0.1:80?head_s=1": "begins with one of tcp://",
    "tcp://127.0.0.1:80/path": "'/path' has no meaning here",
    "tcp://u:p@127.0.0.1:80": "write host:port",
    "tcp://[::1:80": "no URL",
    "tcp://127.0.0.1:80?cert=a": "cert is for tls:// only",
    "tcp://127.0.0.1:80?mode=600": "no option 'mode'",
    "tcp://127.0.0.1:80?stall_s=1": "no option 'stall_s'",
    "tcp://127.0.0.1:80?heads=1": "no option 'heads'; there are .*head_s",
    "tcp://127.0.0.1:80?head_s=1&head_s=2": "head_s is given twice",
    "tcp://127.0.0.1:80?head_s=x": "head_s 'x': write a number",
    "tcp://127.0.0.1:80?head_s=0": "write a number above 0",
    "tcp://127.0.0.1:80?proxy=nonsense": "balancer 'nonsense': .* write a CIDR",
    "tcp://127.0.0.1:80?trust=nonsense": "trusted proxy 'nonsense': .* write a CIDR",
    "tcp://127.0.0.1:80?hops=-1": "write how many proxies",
    "tls://127.0.0.1:80": r"needs \?cert=FILE&key=FILE",
    "tls://127.0.0.1:80?key=a": "each key comes behind its cert",
    "tls://127.0.0.1:80?cert=a&key=b&key=c": "each key comes behind its cert",
    "tls://127.0.0.1:80?cert=a&client=yes": "none, optional or required",
    "tls://127.0.0.1:80?cert=a&client=required": "need both client and client_ca",
    "tls://127.0.0.1:80?cert=a&client=none&client_ca=b": "need both client and client_ca",
    "unix://run/s": "three slashes",
    "unix:///": "three slashes",
    "unix:///s?mode=999": "three octal digits",
    "unix:///s?proxy=10.0.0.0/8": "has no address: say all",
    "127.0.0.1:80 127.0.0.1:80": "listed twice",
    "unix:///s unix:///s?mode=600": "listed twice",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said_with_what_to_do(text: str) -> None:
    with pytest.raises(ConfigurationFault, match=WRONG[text]):
        listens(text, Limits(), NOBODY)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigurationFault) as caught:
        listens("a:b tls://c:d?cert=x&mode=1 tcp://127.0.0.1:1?x=1&proxy=y", Limits(), NOBODY)
    assert len(caught.value.faults) == 5


def test_two_free_ports_are_not_the_same_place() -> None:
    assert len(listens("127.0.0.1:0 127.0.0.1:0", Limits(), NOBODY)) == 2
