"""A keyspace of the real Cassandra for tests: made once, emptied between them."""

from __future__ import annotations

from functools import cache
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import DCAwareRoundRobinPolicy

from chassis.storage.cassandra_url import address_of
from tests.support import real


class Keyspace:
    """What a test needs beyond the port: a look from outside. Every method blocks."""

    def __init__(self, url: str) -> None:
        self.url = url
        address = address_of(url)
        self.name = address.keyspace
        profile = ExecutionProfile(load_balancing_policy=DCAwareRoundRobinPolicy(address.dc))
        self._cluster = Cluster(
            list(address.hosts),
            port=address.hosts[0][1],
            protocol_version=4,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        )
        self._session = self._cluster.connect()

    def run(self, cql: str) -> list[tuple[object, ...]]:
        return list(self._session.execute(cql, timeout=30))

    def tables(self) -> list[str]:
        found = self.run(
            f"SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{self.name}'"
        )
        return [str(row[0]) for row in found]

    def empty(self, *tables: str) -> None:
        """Takes away rows and what is left of removed ones: making a table anew takes longer."""
        for table in set(tables) & set(self.tables()):
            self.run(f"TRUNCATE {self.name}.{table}")

    def drop(self) -> None:
        self.run(f"DROP KEYSPACE IF EXISTS {self.name}")
        self.close()

    def close(self) -> None:
        self._cluster.shutdown()


def changed(url: str, *, keyspace: str = "", port: int = 0, **options: object) -> str:
    """Another keyspace, port or options of the same server."""
    parts = urlsplit(url)
    netloc = f"{parts.hostname}:{port}" if port else parts.netloc
    path = f"/{keyspace}" if keyspace else parts.path
    query = urlencode({**dict(parse_qsl(parts.query)), **options})
    return urlunsplit(parts._replace(netloc=netloc, path=path, query=query))


@cache
def shared() -> Keyspace:
    """The session's keyspace. It goes with the session's server."""
    return Keyspace(_url())


@cache
def _url() -> str:
    return real.fresh("cassandra")


def let_go() -> None:
    """Closes what `shared` has opened: the driver's threads draw random numbers whenever they see
    fit, which tests of properties take for their own."""
    if shared.cache_info().currsize:
        shared().close()
        shared.cache_clear()
