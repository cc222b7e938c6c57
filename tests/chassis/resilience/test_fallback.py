"""Degraded answers: in order, tagged, and never instead of a real refusal."""

from __future__ import annotations

import asyncio

import pytest

from chassis import errors
from chassis.resilience import Answer, Fallback, FallbackConfig, Option


async def down(*_: object) -> str:
    raise errors.OriginReset("gone")


async def up(title: str) -> str:
    return f"fresh {title}"


async def cached(failure: Exception, title: str) -> str:
    return f"cached {title}"


def empty(failure: Exception, title: str) -> str:
    raise errors.Missing(title)


def static(failure: Exception, title: str) -> str:
    return "the same for all"


async def test_a_call_that_goes_well_is_not_degraded():
    answer = await Fallback("test", Option("cache", cached)).call(up, "film")
    assert answer == Answer("fresh film")
    assert not answer.degraded


async def test_the_first_option_that_has_something_answers_and_says_so():
    fallback = Fallback("test", Option("cache", empty), Option("static", static))
    answer = await fallback.call(down, "film")
    assert answer == Answer("the same for all", "static", "origin_reset")
    assert answer.degraded
    assert fallback.counts == {"cache": 0, "static": 1}
    assert repr(fallback) == "Fallback(test: cache 0, static 1)"


async def test_an_asynchronous_option_is_awaited():
    answer = await Fallback("test", Option("cache", cached)).call(down, "film")
    assert answer.value == "cached film"


async def test_without_an_option_left_the_real_failure_is_raised():
    fallback = Fallback("test", Option("cache", empty))
    with pytest.raises(errors.OriginReset):
        await fallback.call(down, "film")
    assert fallback.missed == 1


@pytest.mark.parametrize("answer", [errors.PeerRefusal(404, "not_found"), errors.NotFound()])
async def test_what_the_callee_answered_on_purpose_passes_through(answer):
    async def refuse(*_: object) -> str:
        raise answer

    with pytest.raises(type(answer)):
        await Fallback("test", Option("static", static)).call(refuse, "film")


async def test_fallbacks_have_a_limit_of_their_own_and_give_their_places_back():
    async def hang(failure: Exception, title: str) -> str:
        await asyncio.Event().wait()
        return title

    fallback = Fallback("test", Option("cache", hang), config=FallbackConfig(limit=1))
    first = asyncio.create_task(fallback.call(down, "film"))
    await asyncio.sleep(0)
    with pytest.raises(errors.OriginReset):
        await fallback.call(down, "film")
    assert fallback.rejected == 1
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert fallback.in_flight == 0
