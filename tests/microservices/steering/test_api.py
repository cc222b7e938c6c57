from __future__ import annotations

import asyncio
from pathlib import Path

from chassis.clock import ManualClock
from chassis.contracts.streams import PATHWAYS, RANK, SET_PATHWAY, PathwayState, RankRequest
from microservices.steering.app import build
from tests.support.services import in_process

ASKED = RankRequest(country="US", session_id="s1", network="wifi")
DOWN = PathwayState(pathway="cdn-a", health="down")


async def test_a_play_and_its_player_hear_the_same_order(tmp_path: Path) -> None:
    async with in_process("steering", build, tmp_path) as client:
        ranking = await client.call(RANK, ASKED)
        assert sorted(ranking.pathways) == sorted(PATHWAYS)
        answer = await client.rest("GET", ranking.steering_url or "", passport=None)
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "VERSION": 1,
            "TTL": 300,
            "RELOAD-URI": ranking.steering_url,
            "PATHWAY-PRIORITY": list(ranking.pathways),
        }


async def test_players_queries_do_not_disturb_the_answer(tmp_path: Path) -> None:
    async with in_process("steering", build, tmp_path) as client:
        ranking = await client.call(RANK, ASKED)
        for query in ('_HLS_pathway="cdn-a"&_HLS_throughput=1', '_DASH_pathway="cdn-b"'):
            answer = await client.rest("GET", f"{ranking.steering_url}?{query}", passport=None)
            assert tuple(answer.json()["PATHWAY-PRIORITY"]) == ranking.pathways


async def test_a_pathway_that_is_down_is_left_out_and_stays_so(tmp_path: Path) -> None:
    async with in_process("steering", build, tmp_path) as client:
        await client.call(SET_PATHWAY, DOWN)
        ranking = await client.call(RANK, ASKED)
        assert "cdn-a" not in ranking.pathways
        assert ranking.ttl_s == 30
    async with in_process("steering", build, tmp_path) as client:
        assert "cdn-a" not in (await client.call(RANK, ASKED)).pathways


async def test_another_instance_hears_of_it_within_a_second(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        in_process("steering", build, tmp_path) as one,
        in_process("steering", build, tmp_path, clock=clock) as other,
    ):
        following = asyncio.ensure_future(other.service.background[0]())
        await one.call(SET_PATHWAY, DOWN)
        await clock.advance(1.0)
        assert "cdn-a" not in (await other.call(RANK, ASKED)).pathways
        following.cancel()


async def test_an_unknown_pathway_and_a_wrong_weight_are_refused(tmp_path: Path) -> None:
    async with in_process("steering", build, tmp_path) as client:
        unknown = await client.raw_call(SET_PATHWAY, PathwayState(pathway="cdn-z"))
        assert unknown.status_code == 404
        heavy = await client.raw_call(SET_PATHWAY, PathwayState(pathway="cdn-a", weight=9_999))
        assert heavy.status_code == 400


async def test_a_sid_that_is_none_is_404(tmp_path: Path) -> None:
    async with in_process("steering", build, tmp_path) as client:
        answer = await client.rest("GET", "/v1/steering/a~b~c~d", passport=None)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_session")
