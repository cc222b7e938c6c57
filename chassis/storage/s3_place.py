"""Which bucket, where, with which keys: what an `s3://` URL and the environment say. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

import msgspec

from chassis.errors import BadRequest, ConfigurationFault
from chassis.storage.objects import check_key
from chassis.urls import parts_of

REGION = "us-east-1"
_KNOWN = {"endpoint", "region", "timeout_s", "create"}
_WHAT = "the objects URL"
_EXAMPLE = "s3://bucket/prefix?endpoint=http://127.0.0.1:17070&region=us-east-1"
_NAME = f"name a bucket and no keys, as in {_EXAMPLE}"
_ENDPOINT = f"endpoint: write http://host:port or https://host, as in {_EXAMPLE}"


class S3Place(msgspec.Struct, frozen=True):
    """A bucket and how to reach it. `timeout_s` bounds each request of an ordinary size.

    `create` allows making a bucket that is missing. The keys are in no text of it.
    """

    bucket: str
    prefix: str
    endpoint: str
    region: str
    timeout_s: float
    create: bool
    access_key: str
    secret_key: str
    session_token: str

    def __repr__(self) -> str:
        return f"s3://{'/'.join(filter(None, (self.bucket, self.prefix)))} at {self.where}"

    @property
    def where(self) -> str:
        return self.endpoint or f"AWS {self.region}"

    @classmethod
    def parse(cls, url: str, environ: Mapping[str, str]) -> S3Place:
        """`ConfigurationFault` names everything that is wrong, and shows how to write a URL."""
        parts = parts_of(url, _NAME, _ENDPOINT, what=_WHAT)
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        faults = [*_url_faults(parts.netloc, parts.path, options), *_key_faults(environ)]
        if faults:
            raise ConfigurationFault(faults, what=_WHAT)
        return cls(
            bucket=parts.netloc,
            prefix=parts.path.strip("/"),
            endpoint=options.get("endpoint", "").rstrip("/"),
            region=options.get("region") or environ.get("AWS_REGION") or REGION,
            timeout_s=float(options.get("timeout_s", "5")),
            create=options.get("create") == "yes",
            access_key=environ["AWS_ACCESS_KEY_ID"],
            secret_key=environ["AWS_SECRET_ACCESS_KEY"],
            session_token=environ.get("AWS_SESSION_TOKEN", ""),
        )


def _url_faults(bucket: str, path: str, options: Mapping[str, str]) -> list[str]:
    faults = []
    if not bucket or "@" in bucket or ":" in bucket:
        faults.append(_NAME)
    if prefix := path.strip("/"):
        try:
            check_key(prefix)
        except BadRequest as fault:
            faults.append(f"the prefix: {fault}")
    if unknown := sorted(set(options) - _KNOWN):
        faults.append(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(_KNOWN))}")
    endpoint = options.get("endpoint", "http://")
    if not endpoint.startswith(("http://", "https://")) or "@" in endpoint:
        faults.append(_ENDPOINT)
    if options.get("create", "no") not in ("yes", "no"):
        faults.append("create: write yes or no")
    if not _positive(options.get("timeout_s", "5")):
        faults.append("timeout_s: write a number of seconds above 0")
    return faults


def _key_faults(environ: Mapping[str, str]) -> list[str]:
    return [
        f"{name} is not set in the environment"
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        if not environ.get(name)
    ]


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < 3600
    except ValueError:
        return False
