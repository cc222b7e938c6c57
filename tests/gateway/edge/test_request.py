import pytest

from chassis.errors import BadRequest, RequestFailure
from chassis.http.framing import CHUNKED, Headers
from gateway.edge.fields import Fields, clean_trailers
from gateway.edge.peer import Peer, trust_of
from gateway.edge.refusals import ExpectationFailed, NotImplementedHere
from gateway.edge.request import Request, origin_form

HOST = (b"host", b"a.example")


def request(
    fields: Headers | None = None,
    *,
    method: bytes = b"GET",
    target: bytes = b"/p?q",
    version: str = "1.1",
    host: bytes = b"a.example",
    trusted: bool = False,
) -> Request:
    """As the reader does it."""
    peer = Peer("192.0.2.1", trust_of(["192.0.2.0/24"] if trusted else []))
    is_11 = version == "1.1"
    read = Fields([(b"host", host), *(fields or [])], is_11)
    return Request(method, origin_form(method, target, read.authority), is_11, read, peer)


def test_path_and_query_are_kept_byte_for_byte() -> None:
    got = request(target=b"/a%2Fb//c?x=%zz?&y")
    assert (got.path, got.query) == (b"/a%2Fb//c", b"x=%zz?&y")
    assert got.target == b"/a%2Fb//c?x=%zz?&y"


def test_order_and_duplicates_of_fields_are_kept() -> None:
    fields = [(b"x-a", b"1"), (b"cookie", b"c"), (b"x-a", b"2"), (b"accept", b"")]
    assert request(fields).headers == [HOST, *fields]


@pytest.mark.parametrize(
    "name",
    [
        b"x-passport",
        b"x-request-timeout-ms",
        b"grpc-timeout",
        b"x-priority",
        b"x-fault-context",
        b"x-request-id",
        b"traceparent",
        b"tracestate",
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-real-ip",
        b"keep-alive",
        b"te",
        b"proxy-authorization",
        b"proxy-connection",
        b"upgrade",
    ],
)
def test_what_only_the_edge_may_say_and_hop_by_hop_fields_are_left_out(name: bytes) -> None:
    assert request([(name, b"1"), (b"x-a", b"b")]).headers == [HOST, (b"x-a", b"b")]


def test_what_connection_names_is_left_out_but_never_the_host() -> None:
    got = request([(b"x-a", b"1"), (b"connection", b"X-A, host ,close"), (b"x-b", b"2")])
    assert got.headers == [HOST, (b"x-b", b"2")]
    assert not got.fields.keep_alive


def test_baggage_is_left_out_too_where_connection_names_it() -> None:
    fields = [(b"connection", b"baggage"), (b"baggage", b"a=1")]
    assert request(fields).headers == [HOST]


def test_the_fault_member_is_taken_out_of_baggage() -> None:
    got = request([(b"baggage", b"user=1, fi=forged;x=y,  fi =z"), (b"baggage", b"k=v")])
    assert got.headers == [HOST, (b"baggage", b"user=1,k=v")]


def test_an_underscore_name_is_dropped_beside_its_hyphen_twin() -> None:
    got = request([(b"x_a", b"1"), (b"x-a", b"2"), (b"x_b", b"3")])
    assert got.headers == [HOST, (b"x-a", b"2"), (b"x_b", b"3")]


@pytest.mark.parametrize("name", [b"x_passport", b"x_forwarded_for", b"content_length"])
def test_an_underscore_name_never_imitates_one_of_ours(name: bytes) -> None:
    assert request([(name, b"1")]).headers == [HOST]


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        ("1.1", None, True),
        ("1.1", b"close", False),
        ("1.1", b"Keep-Alive, Close", False),
        ("1.0", None, False),
        ("1.0", b"keep-alive", True),
    ],
)
def test_keep_alive_follows_version_and_connection(
    version: str, connection: bytes | None, kept: bool
) -> None:
    fields = [(b"connection", connection)] if connection else []
    assert request(fields, version=version).fields.keep_alive is kept


def test_the_body_length_is_read() -> None:
    assert request([(b"content-length", b"12")]).fields.length == 12
    assert request([(b"transfer-encoding", b"Chunked")]).fields.length == CHUNKED
    assert request().fields.length == 0


def test_only_a_bodyless_upgrade_to_something_else_than_h2c_is_offered_on() -> None:
    asks = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
    assert request(asks).fields.upgrade == b"websocket"
    assert request([*asks, (b"content-length", b"3")]).fields.upgrade is None
    h2c = request([(b"connection", b"upgrade"), (b"upgrade", b"h2c")])
    assert h2c.fields.upgrade is None
    assert h2c.fields.asks_upgrade


@pytest.mark.parametrize(
    "protocols", [b"websocket, h2c", b"h2c ,websocket", b"H2C/1", b"HTTP/2.0", b"a,\th2"]
)
def test_an_upgrade_that_may_become_another_http_is_not_offered_on(protocols: bytes) -> None:
    asks = [(b"connection", b"upgrade"), (b"upgrade", protocols), (b"http2-settings", b"AAMA")]
    got = request(asks)
    assert got.fields.upgrade is None
    assert got.headers == [HOST]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://a.example/p?q", b"/p"),
        (b"HTTP://A.example", b"/"),
        (b"https://a.example?q", b"/"),
    ],
)
def test_absolute_form_is_read_when_it_agrees_with_host(target: bytes, path: bytes) -> None:
    assert request(target=target).path == path


@pytest.mark.parametrize(
    "target",
    [b"http://b.example/", b"http://u@a.example/", b"ftp://a.example/", b"*", b"a", b"/a#b", b"//"],
)
def test_targets_that_disagree_or_make_no_sense_are_refused(target: bytes) -> None:
    if target == b"//":
        assert request(target=target).path == b"//"
        return
    with pytest.raises(BadRequest):
        request(target=target)


def test_only_options_may_ask_for_everything() -> None:
    assert request(method=b"OPTIONS", target=b"*").target == b"*"


@pytest.mark.parametrize(
    ("fields", "version", "failure"),
    [
        ([(b"host", b"a.example")], "1.1", BadRequest),
        ([(b"transfer-encoding", b"chunked")], "1.0", BadRequest),
        ([(b"transfer-encoding", b"gzip, chunked")], "1.1", NotImplementedHere),
        ([(b"content-length", b"%d" % (1 << 63))], "1.1", BadRequest),
        ([(b"expect", b"a-pony")], "1.1", ExpectationFailed),
    ],
)
def test_heads_that_cannot_be_honoured_are_refused(
    fields: Headers, version: str, failure: type[RequestFailure]
) -> None:
    with pytest.raises(failure):
        request(fields, version=version)


def test_no_host_at_all_is_refused() -> None:
    with pytest.raises(BadRequest):
        Fields([], is_11=True)


def test_only_a_trusted_proxy_says_who_the_client_is() -> None:
    told = [(b"x-forwarded-for", b"203.0.113.9")]
    assert request(told).client == "192.0.2.1"
    assert request(told, trusted=True).client == "203.0.113.9"


@pytest.mark.parametrize("name", [b"X-Passport", b"x_passport", b"X_Forwarded_For", b"Set-Cookie"])
def test_trailers_of_any_spelling_imitate_nothing_of_ours(name: bytes) -> None:
    assert clean_trailers([(name, b"1"), (b"X_Sum", b"2")]) == [(b"X_Sum", b"2")]


def test_trailers_lose_what_frames_routes_or_identifies() -> None:
    fields = [(b"x-sum", b"1"), (b"x-passport", b"p"), (b"host", b"b"), (b"authorization", b"z")]
    assert clean_trailers(fields) == [(b"x-sum", b"1")]
