"""The gateway and its peers as reverse proxies of one upstream, each a process on one core.

Each listens twice: without TLS, and with it on `secure_port`, all with one certificate.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from joserfc import jwt
from joserfc.jwk import RSAKey

from chassis.clock import SYSTEM
from chassis.identity import Keyring
from tests.support import peers
from tests.support.certificates import contexts
from tests.support.peers import Server
from tests.support.ports import free_port

PROXY_CORE, OTHER_CORE = 0, (os.cpu_count() or 1) - 1
KEPT_IDLE = 64
BODY = json.dumps({"id": "tt0083658", "title": "Blade Runner", "year": 1982, "minutes": 117})
LARGE = 1 << 20

_GATEWAY = """\
from deploy.compiled import use
use()
import sys
from pathlib import Path
from gateway.app import run
from gateway.settings import Settings
rules, listen, home, logged = sys.argv[1:]
run(Settings(rules=Path(rules), listen=listen, home=Path(home), log_successes=float(logged)))
"""
_EVERYTHING = """\
clusters: {{up: {{instances: ['127.0.0.1:{upstream}'], health: {{path: /}}}}}}
auth: {{member: {{issuer: 'https://issuer.example', audience: bench, jwks: {{file: jwks.json}}}}}}
limits: {{each: {{per_s: 1000000, burst: 1000000, key: account}}}}
rules:
- {{name: asked, match: {{path_template: '/v1/titles/{{id}}'}}, forward: up, auth: member,
   scopes: [play], rate_limit: each, retry: {{attempts: 2}}, hedge: {{quantile: 0.99}}}}
"""
_ONE_OF_MANY = (
    "- {{name: r{n}, match: {{path_prefix: /v1/s{n}/things, methods: [GET]}}, forward: up}}\n"
)
RULES = 1_000
_HAPROXY = """\
global
  nbthread 1
  maxconn 20000
  no strict-limits
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend clients
  bind 127.0.0.1:{port}
  bind 127.0.0.1:{secure} ssl crt {folder}/both.pem
  default_backend up
backend up
  http-reuse always
  server one 127.0.0.1:{upstream}
"""
_CHAIN = """
    - filters: &all
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: "/"}, route: {cluster: up}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"""  # noqa: E501  # Envoy's own names
_ENVOY = """\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:{chain}
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {secure}}}}}
    filter_chains:
    - filters: *all
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates:
            - {{certificate_chain: {{filename: {folder}/cert.pem}}, private_key: {{filename: {folder}/key.pem}}}}
  clusters:
  - name: up
    type: STATIC
    load_assignment:
      cluster_name: up
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}
"""  # noqa: E501  # Envoy's own names


@dataclass(frozen=True, slots=True)
class Proxy:
    """One of them, starting. `secure_port` is None where there is no TLS."""

    name: str
    server: Server
    secure_port: int | None = None


def prepare(folder: Path) -> None:
    """Certificate and large body, which the proxies and the upstream read."""
    contexts(folder)
    both = (folder / "localhost.pem").read_text()
    begin = both.index("-----BEGIN CERTIFICATE")
    (folder / "both.pem").write_text(both)
    (folder / "key.pem").write_text(both[:begin])
    (folder / "cert.pem").write_text(both[begin:])
    (folder / "large").write_bytes(os.urandom(LARGE))


def upstream(folder: Path) -> Server:
    """A small JSON answer anywhere, one MB at /large."""
    places = (
        f"location = /large {{ root {folder}; }} "
        f"location / {{ default_type application/json; return 200 '{BODY}'; }}"
    )
    return peers.nginx(folder, "upstream", places, core=OTHER_CORE)


def nginx(folder: Path, upstream: int) -> Proxy:
    """Answers are buffered in memory only, as by the others."""
    secure = free_port()
    server = (
        f"listen 127.0.0.1:{secure} ssl; "
        f"ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; "
        "location / { proxy_pass http://up; proxy_http_version 1.1; proxy_max_temp_file_size 0; "
        'proxy_set_header Connection ""; proxy_set_header Host $host; }'
    )
    pool = (
        f"upstream up {{ server 127.0.0.1:{upstream}; keepalive {KEPT_IDLE}; "
        "keepalive_requests 100000000; }"
    )
    made = peers.nginx(folder, "nginx", server, core=PROXY_CORE, extra=pool)
    return Proxy("nginx", made, secure)


def haproxy(folder: Path, upstream: int) -> Proxy:
    port, secure, conf = free_port(), free_port(), folder / "haproxy.cfg"
    conf.write_text(_HAPROXY.format(port=port, secure=secure, folder=folder, upstream=upstream))
    command = [peers.debian("haproxy", "haproxy"), "-db", "-f", str(conf)]
    made = Server("haproxy", command, port, core=PROXY_CORE, log=folder / "haproxy.log")
    return Proxy("haproxy", made, secure)


def envoy(folder: Path, upstream: int) -> Proxy:
    port, secure, conf = free_port(), free_port(), folder / "envoy.yaml"
    values = {"port": port, "secure": secure, "folder": folder, "upstream": upstream}
    conf.write_text(_ENVOY.format(chain=_CHAIN, **values))
    command = [peers.envoy(), "-c", str(conf), "--concurrency", "1", "--log-level", "error"]
    command += ["--use-dynamic-base-id"]
    made = Server("envoy", command, port, core=PROXY_CORE, log=folder / "envoy.log")
    return Proxy("envoy", made, secure)


def gateway(folder: Path, upstream: int) -> Proxy:
    """On the compiled hot path where there is one."""
    return _gateway(folder, upstream, "gateway", {})


def pure(folder: Path, upstream: int) -> Proxy:
    """The gateway as it is written."""
    return _gateway(folder, upstream, "gateway, pure", {"STAGEDOOR_PURE": "1"})


def everything(folder: Path, upstream: int) -> Proxy:
    """A thousand rules; the one that is asked for checks a token (RS256) and its scope, adds a
    passport, limits the rate of the account, tries again and hedges; its instance is health-checked
    and every request is logged. `bearer` has the credential."""
    home = folder / "home-everything"
    (home / "keys").mkdir(parents=True)
    (home / "keys" / "inside.json").write_bytes(msgspec.json.encode(Keyring.fresh(SYSTEM)))
    others = "".join(_ONE_OF_MANY.format(n=number) for number in range(RULES - 1))
    text = _EVERYTHING.format(upstream=upstream) + others
    return _gateway(folder, upstream, "gateway, all on", {}, text=text, home=home, logged="1")


def bearer(folder: Path) -> str:
    """A token for `everything`, whose public key it writes."""
    key = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig", "alg": "RS256"})
    (folder / "jwks.json").write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    claims = {"iss": "https://issuer.example", "aud": "bench", "sub": "a1", "scope": "play"}
    claims["exp"] = int(SYSTEM.now()) + 3_600
    return f"Bearer {jwt.encode({'alg': 'RS256', 'kid': 'k1'}, claims, key)}"


def _gateway(
    folder: Path,
    upstream: int,
    name: str,
    environ: dict[str, str],
    *,
    text: str = "",
    home: Path | None = None,
    logged: str = "0",
) -> Proxy:
    port, secure = free_port(), free_port()
    rules = folder / f"rules-{port}.yaml"
    rules.write_text(
        text
        or f"clusters: {{up: {{instances: ['127.0.0.1:{upstream}']}}}}\n"
        "rules: [{name: all, forward: up}]\n"
    )
    tls = f"tls://127.0.0.1:{secure}?cert={folder}/cert.pem&key={folder}/key.pem"
    command = [sys.executable, "-c", _GATEWAY, str(rules), f"127.0.0.1:{port} {tls}"]
    command += [str(home or folder / f"home-{port}"), logged]
    log = folder / f"gateway-{port}.log"
    made = Server(name, command, port, core=PROXY_CORE, log=log, environ=environ)
    return Proxy(name, made, secure)


def bare(folder: Path, upstream: int) -> Proxy:
    """The least that this interpreter can do."""
    port = free_port()
    command = [sys.executable, "-m", "tests.support.bare", str(port), str(upstream)]
    return Proxy("bare", Server("bare", command, port, core=PROXY_CORE, log=folder / "bare.log"))


STARTS: tuple[Callable[[Path, int], Proxy], ...] = (nginx, haproxy, envoy, bare, gateway, pure)
