import random

import pytest

from gateway.quantile import LEAST, Quantile


@pytest.mark.parametrize(("share", "wanted"), [(0.5, 0.05), (0.95, 0.095)])
def test_it_follows_the_quantile_of_what_is_observed(share: float, wanted: float) -> None:
    chance, quantile = random.Random(1), Quantile(share)
    found = []
    for number in range(20_000):
        quantile.observe(chance.uniform(0.0, 0.1))
        if number > 1000:
            found.append(quantile.value)
    assert sum(found) / len(found) == pytest.approx(wanted, rel=0.1)


def test_it_forgets() -> None:
    quantile = Quantile(0.5)
    for _ in range(500):
        quantile.observe(1.0)
    for _ in range(200):
        quantile.observe(0.01)
    assert quantile.value < 0.02


def test_it_is_known_after_a_while() -> None:
    quantile = Quantile(0.95)
    for _ in range(LEAST - 1):
        quantile.observe(0.01)
    assert not quantile.is_known
    quantile.observe(0.01)
    assert quantile.is_known


def test_nothing_observed_and_no_time_at_all_are_no_trouble() -> None:
    quantile = Quantile(0.5)
    assert quantile.value == 0.0
    quantile.observe(0.0)
    quantile.observe(0.5)
    assert quantile.value == 0.5
