from __future__ import annotations

import pytest

from chassis.errors import ConfigurationFault
from chassis.storage import open_objects
from chassis.storage.s3_place import S3Place

KEYS = {"AWS_ACCESS_KEY_ID": "known", "AWS_SECRET_ACCESS_KEY": "only-here"}


def test_a_url_says_bucket_prefix_endpoint_region_and_patience() -> None:
    url = "s3://films/raw/x?endpoint=http://127.0.0.1:9/&region=eu-west-1&timeout_s=2.5&create=yes"
    place = S3Place.parse(url, {**KEYS, "AWS_SESSION_TOKEN": "for-now"})
    assert (place.bucket, place.prefix, place.region) == ("films", "raw/x", "eu-west-1")
    assert (place.endpoint, place.timeout_s, place.create) == ("http://127.0.0.1:9", 2.5, True)
    assert (place.access_key, place.session_token) == ("known", "for-now")


def test_what_a_url_leaves_out_is_the_usual() -> None:
    place = S3Place.parse("s3://films", {**KEYS, "AWS_REGION": "eu-west-1"})
    assert (place.prefix, place.endpoint, place.region) == ("", "", "eu-west-1")
    assert (place.timeout_s, place.create) == (5.0, False)


def test_no_text_of_it_shows_a_key() -> None:
    place = S3Place.parse("s3://films/raw", KEYS)
    assert repr(place) == str(place) == "s3://films/raw at AWS us-east-1"


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("s3://", "name a bucket"),
        ("s3://key:secret@films", "name a bucket and no keys"),
        ("s3://key:sec/ret@films", "name a bucket and no keys"),
        ("s3://key:sec[ret@films", "name a bucket and no keys"),
        ("s3://films/.hidden", "the prefix"),
        ("s3://films?endpoint=127.0.0.1:9", "endpoint: write http://host:port"),
        ("s3://films?endpoint=http://key:secret@host", "endpoint: write http://host:port"),
        ("s3://films?zone=a", "unknown: zone; known: create, endpoint, region, timeout_s"),
        ("s3://films?timeout_s=soon", "timeout_s"),
        ("s3://films?create=perhaps", "create: write yes or no"),
    ],
)
def test_a_wrong_url_says_what_to_write(url: str, fault: str) -> None:
    with pytest.raises(ConfigurationFault, match=fault) as raised:
        open_objects(url, environ=KEYS)
    assert "secret" not in str(raised.value)
    assert "ret@" not in str(raised.value)


def test_keys_that_are_not_there_are_both_named_with_everything_else() -> None:
    with pytest.raises(ConfigurationFault) as raised:
        open_objects("s3://films?zone=a", environ={})
    assert len(raised.value.faults) == 3
    assert "AWS_ACCESS_KEY_ID" in str(raised.value)
    assert "AWS_SECRET_ACCESS_KEY is not set in the environment" in str(raised.value)
