"""Metrics: plain integers on the hot path, a bounded and well-formed exposition at scrape."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from chassis.telemetry import Metrics
from chassis.telemetry.metrics import BUCKETS, OTHER, SERIES_LIMIT, Histogram


def exposed(metrics: Metrics, name: str) -> list[Sample]:
    families = text_string_to_metric_families(metrics.render().decode())
    return [one for family in families for one in family.samples if one.name == name]


def test_a_child_is_counted_with_one_increment() -> None:
    metrics = Metrics()
    child = metrics.counter("plays_total", "Plays.", ("outcome",)).child("success")
    child.n += 3
    (sample,) = exposed(metrics, "plays_total")
    assert (sample.labels, sample.value) == ({"outcome": "success"}, 3)


def test_the_same_labels_are_the_same_child() -> None:
    family = Metrics().counter("plays_total", "Plays.", ("region", "device"))
    assert family.child("US", "tv") is family.child("US", "tv")
    assert family.child("US", "tv") is not family.child("tv", "US")


def test_values_go_to_labels_in_the_order_of_their_naming() -> None:
    metrics = Metrics()
    metrics.counter("plays_total", "Plays.", ("region", "device")).child("US", "tv").n += 1
    (sample,) = exposed(metrics, "plays_total")
    assert sample.labels == {"region": "US", "device": "tv"}


@pytest.mark.parametrize("values", [(), ("US",), ("US", "tv", "x")])
def test_labels_that_are_missing_or_too_many_are_refused(values: tuple[str, ...]) -> None:
    family = Metrics().counter("plays_total", "Plays.", ("region", "device"))
    with pytest.raises(ValueError, match="region"):
        family.child(*values)


def test_beyond_the_limit_series_are_counted_together_and_said_to_be() -> None:
    metrics = Metrics()
    family = metrics.counter("plays_total", "Plays.", ("who", "what"))
    for number in range(SERIES_LIMIT + 5):
        family.child(str(number), "x").n += 1
    family.child("0", "x").n += 1
    samples = exposed(metrics, "plays_total")
    other = [one for one in samples if one.labels["who"] == OTHER]
    assert len(samples) == SERIES_LIMIT + 1
    assert (other[0].labels, other[0].value) == ({"who": OTHER, "what": OTHER}, 5)
    (overflow,) = exposed(metrics, "metrics_overflow_total")
    assert (overflow.labels, overflow.value) == ({"metric": "plays_total"}, 5)


def test_histograms_are_bounded_too() -> None:
    metrics = Metrics()
    family = metrics.histogram("step_seconds", "Steps.", ("step",))
    for number in range(SERIES_LIMIT + 1):
        family.child(str(number)).observe(0.1)
    assert family.child("one more") is family.child("another")


def test_nothing_overflowed_is_no_series() -> None:
    assert exposed(Metrics(), "metrics_overflow_total") == []


def test_a_value_on_a_boundary_is_in_its_bucket() -> None:
    metrics = Metrics()
    metrics.histogram("step_seconds", "Steps.").child().observe(0.25)
    under = {one.labels["le"]: one.value for one in exposed(metrics, "step_seconds_bucket")}
    assert (under["0.1"], under["0.25"], under["+Inf"]) == (0, 1, 1)
    assert [float(bound) for bound in under] == [*BUCKETS, math.inf]


@given(st.lists(st.floats(min_value=0, max_value=100), max_size=50))
def test_buckets_count_what_is_at_most_their_bound(values: list[float]) -> None:
    histogram = Histogram(BUCKETS)
    for value in values:
        histogram.observe(value)
    assert histogram.total == pytest.approx(sum(values))
    for bound, count in histogram.cumulative():
        assert count == sum(value <= bound for value in values)


def test_a_gauge_is_read_when_it_is_scraped() -> None:
    metrics, size = Metrics(), [1.0]
    metrics.gauge("queue_length", "Waiting.", read=lambda: [((), size[0])])
    size[0] = 7
    assert [one.value for one in exposed(metrics, "queue_length")] == [7]


def test_an_owners_counters_and_histograms_are_exposed_as_such() -> None:
    metrics = Metrics()
    metrics.counted("sent_total", "Sent.", ("to",), read=lambda: [(("a",), 5)])
    metrics.timed("took_seconds", "Took.", read=lambda: [((), [(1, 2), (math.inf, 3)], 4.5)])
    types = {
        one.name: one.type for one in text_string_to_metric_families(metrics.render().decode())
    }
    assert (types["sent"], types["took_seconds"]) == ("counter", "histogram")
    assert exposed(metrics, "took_seconds_sum")[0].value == 4.5
    assert [one.value for one in exposed(metrics, "took_seconds_bucket")] == [2, 3]


def test_what_is_read_with_the_wrong_labels_is_refused() -> None:
    metrics = Metrics()
    metrics.gauge("queue_length", "Waiting.", ("of",), read=lambda: [((), 1.0)])
    with pytest.raises(ValueError, match="queue_length"):
        metrics.render()


def test_an_owner_may_look_once_before_each_scrape() -> None:
    metrics, seen = Metrics(), list[str]()
    metrics.gauge("a", "A.", read=lambda: seen.append("read") or [])
    metrics.before_scrape(lambda: seen.append("look"))
    metrics.render()
    metrics.render()
    assert seen == ["look", "read"] * 2


def test_a_name_is_taken_once() -> None:
    metrics = Metrics()
    metrics.counter("plays_total", "Plays.")
    with pytest.raises(ValueError, match="plays_total"):
        metrics.gauge("plays_total", "Plays.", read=list)


def test_a_counter_is_named_as_it_is_exposed() -> None:
    with pytest.raises(ValueError, match="plays_total"):
        Metrics().counter("plays", "Plays.")
    with pytest.raises(ValueError, match="plays_total"):
        Metrics().counted("plays", "Plays.", read=list)


@given(st.text())
def test_any_text_survives_as_a_label_value(value: str) -> None:
    metrics = Metrics()
    metrics.counter("plays_total", "Plays.", ("title",)).child(value).n += 1
    (sample,) = exposed(metrics, "plays_total")
    assert sample.labels["title"] == value
