"""The real servers as local processes: Kafka, Cassandra, Consul, S3, Redis and Prometheus.

`Servers(home, cache)` installs, starts, asks, kills and stops them. They need no containers,
listen on the loopback only, and outlive the command that starts them.
"""

from deploy.servers.installed import Installed, InstallFailed, NotInstalled, default_cache
from deploy.servers.kinds import NAMES
from deploy.servers.running import Process, Running, Status
from deploy.servers.s3 import make_bucket
from deploy.servers.servers import Servers
from deploy.servers.start import StartFailed

__all__ = [
    "NAMES",
    "InstallFailed",
    "Installed",
    "NotInstalled",
    "Process",
    "Running",
    "Servers",
    "StartFailed",
    "Status",
    "default_cache",
    "make_bucket",
]
