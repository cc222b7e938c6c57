"""S3: versitygw over a local directory, with keys of its own made at the first start."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, quote, urlsplit

from chassis.clock import SYSTEM, Clock
from deploy.servers.golang import GoProgram
from deploy.servers.http import ask
from deploy.servers.server import Command, Instance, NotReady, Server, Setup, password
from deploy.servers.signature import signed
from deploy.servers.templates import DATA

REGION = "us-east-1"
BUCKET = "stagedoor"
_OURS_ALREADY = 409


class S3(Server):
    name = "s3"
    installation = GoProgram(
        "s3", "1.8.0", DATA / "s3", "github.com/versity/versitygw/cmd/versitygw"
    )
    memory = 80 << 20

    def fresh_secrets(self, clock: Clock, *, auth: bool) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": f"SD{clock.entropy(9).hex().upper()}",
            "AWS_SECRET_ACCESS_KEY": password(clock),
        }

    async def prepare(self, setup: Setup, instance: Instance, clock: Clock) -> None:
        for folder in ("buckets", "versions"):
            (instance.folder / folder).mkdir(exist_ok=True)

    async def command(self, setup: Setup, instance: Instance) -> Command:
        keys = {
            "ROOT_ACCESS_KEY": setup.secrets["AWS_ACCESS_KEY_ID"],
            "ROOT_SECRET_KEY": setup.secrets["AWS_SECRET_ACCESS_KEY"],
        }
        gateway = (str(setup.installed.path), "--port", instance.authority, "--quiet")
        versions, buckets = instance.folder / "versions", instance.folder / "buckets"
        storage = ("posix", "--versioning-dir", str(versions), str(buckets))
        return Command((*gateway, *storage), keys)

    async def probe(self, setup: Setup, instance: Instance) -> None:
        """A signed list of the buckets."""
        url = f"http://{instance.authority}/"
        headers = signed("GET", url, setup.secrets, SYSTEM.now(), REGION)
        answer = await ask(url, headers=headers)
        if answer.status_code != 200:
            raise NotReady(f"listing the buckets answers {answer.status_code}")

    async def finish(self, setup: Setup) -> None:
        await make_bucket(self.url(setup), setup.secrets, SYSTEM)

    def url(self, setup: Setup) -> str:
        endpoint = quote(f"http://{setup.first.authority}", safe=":/")
        return f"s3://{BUCKET}?endpoint={endpoint}&region={REGION}"

    def environ(self, setup: Setup) -> dict[str, str]:
        return dict(setup.secrets)


async def make_bucket(url: str, keys: Mapping[str, str], clock: Clock) -> None:
    """Makes the bucket of `s3://bucket?endpoint=…` unless it is ours already."""
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    target = f"{options['endpoint'][0]}/{parts.netloc}"
    region = options.get("region", [REGION])[0]
    headers = signed("PUT", target, keys, clock.now(), region)
    answer = await ask(target, method="PUT", headers=headers)
    if answer.status_code not in (200, _OURS_ALREADY):
        raise NotReady(f"the bucket {parts.netloc} cannot be made: {answer.status_code}")
