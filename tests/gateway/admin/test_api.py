"""The admin application, asked as its users ask it."""

import httpx
import jsonschema_rs
import pytest

from chassis.clock import SYSTEM
from chassis.telemetry import Telemetry
from gateway.admin import admin_app
from gateway.rules.live import LiveRules

RULES = """\
clusters: {a: {service: a}}
rules:
- {name: play, match: {path: /v1/play, methods: [POST]}, forward: a}
- {name: rest, forward: a}
"""


class Running:
    """A gateway as the admin application sees it."""

    def __init__(self) -> None:
        self.draining = False

    def ready(self) -> bool:
        return not self.draining

    def clusters(self):
        return [{"cluster": "a", "instances": [{"address": "127.0.0.1:1", "in_flight": 2}]}]

    def drain(self) -> None:
        self.draining = True


@pytest.fixture
async def live(tmp_path):
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    rules = LiveRules(file, tmp_path / "state", SYSTEM)
    await rules.start()
    yield rules
    await rules.close()


@pytest.fixture
async def admin(live, tmp_path):
    telemetry = Telemetry("gateway", "gateway-1", SYSTEM, log_file=tmp_path / "log.jsonl")
    app = admin_app(live, telemetry, Running(), "1.2.3")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9901") as client:
        yield client


async def test_every_admin_port_page_is_there(admin):
    for page in ("/live", "/ready", "/version", "/metrics"):
        assert (await admin.get(page)).status_code == 200, page
    assert (await admin.get("/version")).json()["version"] == "1.2.3"


async def test_the_rules_are_given_as_written_with_an_etag(admin, live):
    answer = await admin.get("/rules")
    assert answer.text == RULES
    assert answer.headers["etag"] == f'"{live.snapshot.content_hash}"'
    assert answer.headers["x-rules-version"] == "1"
    again = await admin.get("/rules", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_lint_names_every_fault_and_changes_nothing(admin, live):
    before = live.snapshot
    answer = await admin.post("/rules/lint", content="rules:\n- {name: x, forward: b}\n- {}\n")
    assert answer.status_code == 422
    assert [(f["line"], f["reason"]) for f in answer.json()["findings"]] == [
        (2, "rule 'x': cluster 'b' is not known"),
        (3, "rules[1]: 'name' is missing"),
    ]
    assert live.snapshot is before
    good = await admin.post("/rules/lint", content=RULES)
    assert (good.status_code, good.json()) == (200, {"ok": True, "findings": []})


async def test_explain_answers_in_both_forms(admin):
    asked = {"method": "POST", "url": "http://h/v1/play", "headers": {"x": "y"}}
    long = (await admin.post("/rules/explain", json=asked)).json()
    short = (await admin.get("/rules/explain?method=POST&url=/v1/play")).json()
    assert long["winner"] == short["winner"] == "play"
    assert long["misses"] == [{"rule": "rest", "reasons": ["fits, but 'play' goes first by path"]}]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("POST", "/rules/explain", b"{", 400, "JSON"),
        ("POST", "/rules/explain", b'{"url": "/", "odd": 1}', 400, "odd"),
        ("POST", "/rules/explain", b'{"url": "http://[/"}', 400, "is no URL"),
        ("GET", "/rules/explain", b"", 400, "?url="),
        ("GET", "/rules/history/77", b"", 404, "GET /rules/history"),
        ("GET", "/nowhere", b"", 404, "/nowhere"),
    ],
)
async def test_a_bad_question_gets_a_problem_that_says_what_to_do(
    admin, method, path, body, status, word
):
    answer = await admin.request(method, path, content=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert word in answer.json()["detail"]


async def test_history_lists_versions_and_gives_their_documents(admin, live):
    await live.propose(RULES.replace("rest", "other").encode(), author="me", why="a test")
    listed = (await admin.get("/rules/history")).json()
    assert [(v["version"], v["author"], v["why"]) for v in listed] == [
        (2, "me", "a test"),
        (1, "file", "start"),
    ]
    assert (await admin.get("/rules/history/1")).text == RULES


async def test_the_snapshot_page_tells_what_serves_and_what_was_refused(admin, live):
    with pytest.raises(Exception, match="not known"):
        await live.propose(b"rules: [{name: x, forward: b}]", author="me", why="")
    told = (await admin.get("/snapshot")).json()
    assert (told["version"], told["rules"], told["counters"]["refused"]) == (1, 2, 1)
    assert told["findings"][0]["line"] == 1


async def test_the_published_schema_fits_the_document_that_serves(admin, live):
    schema = (await admin.get("/rules/schema")).json()
    document = {"clusters": {"a": {"service": "a"}}, "rules": [{"name": "r", "forward": "a"}]}
    assert jsonschema_rs.Draft202012Validator(schema).is_valid(document)


async def test_clusters_and_drain_speak_to_the_running_gateway(admin):
    assert (await admin.get("/clusters")).json()[0]["cluster"] == "a"
    assert (await admin.post("/drain")).status_code == 202
    assert (await admin.get("/ready")).status_code == 503
    assert (await admin.get("/live")).status_code == 200
    assert (await admin.get("/drain")).status_code == 405


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/rules", {"host": "evil.example"}, 403),
        ("GET", "/rules", {"host": "evil.example:9901"}, 403),
        ("GET", "/rules", {"host": "localhost:9901"}, 200),
        ("GET", "/rules", {"host": "[::1]:9901"}, 200),
        ("GET", "/rules", {"host": "127.0.0.1"}, 200),
        ("GET", "/metrics", {"host": "gateway:9901"}, 200),
        ("POST", "/drain", {"origin": "https://evil.example"}, 403),
        ("POST", "/drain", {"origin": "null"}, 403),
        ("POST", "/drain", {"origin": "http://127.0.0.1:9901"}, 202),
    ],
)
async def test_what_a_browser_was_made_to_send_is_refused(admin, method, path, headers, status):
    assert (await admin.request(method, path, headers=headers)).status_code == status
