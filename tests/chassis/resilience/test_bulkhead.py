"""The bulkhead: its places, and that every one comes back."""

from __future__ import annotations

import asyncio

import pytest

from chassis import errors
from chassis.resilience import Bulkhead, BulkheadConfig, BulkheadFull


@pytest.fixture
def bulkhead() -> Bulkhead:
    return Bulkhead("test", BulkheadConfig(2))


async def test_a_full_bulkhead_refuses_and_says_so(bulkhead):
    calls = [asyncio.create_task(bulkhead.call(asyncio.Event().wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(BulkheadFull) as caught:
        await bulkhead.call(asyncio.Event().wait)
    assert isinstance(caught.value, errors.BulkheadFull)
    assert caught.value.policy == "bulkhead"
    assert caught.value.reason == "all 2 places are taken"
    assert bulkhead.rejected == 1
    assert repr(bulkhead) == "Bulkhead(test: 2 of 2 in flight)"
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert bulkhead.in_flight == 0


async def test_a_failed_call_gives_its_place_back(bulkhead):
    async def bad() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        await bulkhead.call(bad)
    assert bulkhead.in_flight == 0


def test_a_bulkhead_without_places_is_a_fault():
    with pytest.raises(errors.ConfigurationFault):
        BulkheadConfig(0)
