"""`stagedoor`: the command line. Every command that ends has --json; an error says what to do.

Exit status: 0 done, 1 it failed, 2 what was asked makes no sense, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec
import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from chassis.clock import SYSTEM
from chassis.errors import (
    ConfigurationFault,
    ConnectFailed,
    NotFound,
    SchemaFault,
    StagedoorError,
)
from deploy.home import Home
from deploy.servers.cli import app as servers

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="An API gateway with live rules, a Play API, and an exact stream pipeline.",
)
catalog = typer.Typer(no_args_is_help=True, help="The catalogue.")
app.add_typer(catalog, name="catalog")
rules = typer.Typer(no_args_is_help=True, help="The gateway's rules document.")
app.add_typer(rules, name="rules")
app.add_typer(servers, name="servers")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
HomeOption = Annotated[
    Path,
    typer.Option("--home", envvar="STAGEDOOR_HOME", help="The state directory."),
]
DEFAULT_HOME = Path("var")
T = TypeVar("T")


def _url(example: str, name: str) -> Any:
    return typer.Option(
        help=example, envvar=f"STAGEDOOR_{name}", rich_help_panel="Backing services"
    )


def _show_version(wanted: bool) -> None:
    """The command's own, and whether the gateway's hot path is compiled."""
    if wanted:
        from gateway.worker import version

        typer.echo(version())
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Say the version and end."
        ),
    ] = False,
) -> None:
    """An API gateway with live rules, a Play API, and an exact stream pipeline."""


@app.command()
def up(
    home: HomeOption = DEFAULT_HOME,
    port: Annotated[int, typer.Option(help="The gateway's port; 0 picks a free one.")] = 8080,
    registry_port: Annotated[int, typer.Option(help="The registry's port; 0: any.")] = 8500,
    admin_port: Annotated[int, typer.Option(help="The supervisor's admin port; 0: any.")] = 9900,
    instances: Annotated[
        list[str] | None, typer.Option(help="NAME=N: run N instances of a service.")
    ] = None,
    profile: Annotated[
        str, typer.Option(help="embedded, or real: on the servers of `stagedoor servers up`.")
    ] = "embedded",
    registry: Annotated[str, _url("consul://host:port?prefix=NAME", "REGISTRY")] = "",
    log: Annotated[str, _url("kafka://host:port", "LOG")] = "",
    tables: Annotated[str, _url("cassandra://host:port/keyspace", "TABLES")] = "",
    views: Annotated[str, _url("the same for the stream's tables", "VIEWS")] = "",
    objects: Annotated[str, _url("s3://bucket?endpoint=http://host:port", "OBJECTS")] = "",
    cache: Annotated[str, _url("redis://host:port/0", "CACHE")] = "",
    as_json: Json = False,
) -> None:
    """Start the whole system on this machine, until Ctrl-C. A URL puts one backing service of it
    elsewhere, whatever the profile."""
    from deploy.backing import Backing
    from deploy.local import LocalSettings, Ready, check
    from deploy.local import up as run
    from deploy.profiles import of_profile
    from deploy.zygote import lead

    def ready(where: Ready) -> None:
        if as_json:
            _print_json(where)
        else:
            say(BANNER.format(gateway=where.gateway, rules=where.rules, home=where.home))

    told = _quiet if as_json else say
    given = Backing(
        registry=registry, log=log, tables=tables, views=views, objects=objects, cache=cache
    )
    settings = LocalSettings(
        home=home,
        port=_port(port),
        registry_port=_port(registry_port),
        admin_port=_port(admin_port),
        instances=_counts(instances or []),
    )
    check(settings, SYSTEM)
    backing = of_profile(profile, given, home.absolute(), told)
    settings = msgspec.structs.replace(settings, backing=backing)
    status = lead(lambda channel: _run(run(settings, channel, SYSTEM, told, ready)))
    raise SystemExit(status)


BANNER = """
Stagedoor is up: {gateway}

  stagedoor demo                         one member, one film, and all that comes of it
  stagedoor load --viewers 50            many viewers; prints rates, percentiles, outcomes
  stagedoor kill recommendations         a real SIGKILL; plays go on, marked degraded
  stagedoor ps                           what is running
  edit {rules}    routing changes live, a bad edit is refused

State is in {home}; Ctrl-C drains and stops.
"""


@app.command()
def down(home: HomeOption = DEFAULT_HOME, as_json: Json = False) -> None:
    """Drain and stop the system that runs in this state directory."""

    async def stop() -> None:
        await _control(home, "POST", "/down")
        state = Home(home)
        while state.is_running():
            await SYSTEM.sleep(0.05)

    _run(stop())
    if as_json:
        _print_json({"stopped": str(home.absolute())})
    else:
        say("stopped")


@app.command()
def ps(home: HomeOption = DEFAULT_HOME, as_json: Json = False) -> None:
    """List the processes: status, pid, starts."""
    listed = _run(_control(home, "GET", "/processes"))
    if as_json:
        _print_json(listed)
        return
    for one in listed:
        pid = one["pid"] or "-"
        say(f"{one['instance']:<20} {one['status']:<12} pid {pid:<8} starts {one['starts']}")


@app.command()
def kill(
    name: Annotated[str, typer.Argument(help="A service, or one instance such as rights-1.")],
    hold: Annotated[float, typer.Option(help="Keep it down for so many seconds.")] = 0.0,
    home: HomeOption = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """SIGKILL a service, as a crash would; it is started again by itself."""
    path = f"/processes/{quote(name, safe='')}/kill"
    answer = _run(_control(home, "POST", path, params={"hold": str(hold)}))
    if as_json:
        _print_json(answer)
    else:
        say(f"killed {name} (pid {', '.join(map(str, answer['killed']))}); it comes back by itself")


@app.command()
def restart(
    name: Annotated[str, typer.Argument(help="A service, or one instance such as gateway-1.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Restart a service while it serves, one process at a time. A gateway loses no request; of
    anything else run two (`up --instances NAME=2`)."""

    async def run() -> list[str]:
        listed = await _control(home, "GET", "/processes")
        chosen = [one["instance"] for one in listed if name in (one["service"], one["instance"])]
        for instance in chosen or [name]:
            path = f"/processes/{quote(instance, safe='')}/restart"
            await _control(home, "POST", path, timeout=RESTART_S)
            (_quiet if as_json else say)(f"{instance} is back")
        return chosen

    restarted = _run(run())
    if as_json:
        _print_json({"restarted": restarted})


RESTART_S = 90.0
"""Longer than any process takes to drain and to come back."""


@app.command()
def demo(
    title: Annotated[str, typer.Option(help="Words of the film's title.")] = "inception",
    country: Annotated[str, typer.Option(help="Where the member lives.")] = "US",
    home: HomeOption = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Sign a member up, play a film, and show everything that comes of it."""
    from deploy.demo import demo as run

    url = _gateway(home)
    report = _run(run(url, home.absolute(), title, country, SYSTEM, _quiet if as_json else say))
    if as_json:
        _print_json(report)


@app.command()
def load(
    viewers: Annotated[int, typer.Option(help="How many viewers.")] = 20,
    seconds: Annotated[float, typer.Option(help="For how long.")] = 10.0,
    rate: Annotated[float | None, typer.Option(help="Plays a second; default viewers/5.")] = None,
    country: Annotated[str, typer.Option(help="Where the viewers live.")] = "US",
    home: HomeOption = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Play films by their popularity, open loop, and print rates, percentiles and outcomes."""
    from deploy.load import Load, LoadSettings

    settings = LoadSettings(viewers=viewers, seconds=seconds, rate=rate, country=country)
    url = _gateway(home)

    async def run(progress: Callable[[float], None]) -> Any:
        generator = Load(url, settings, SYSTEM)
        try:
            return await generator.run(progress)
        finally:
            await generator.close()

    report = _with_progress("playing", run, quiet=as_json)
    if as_json:
        _print_json(report)
    else:
        say("\n".join(report.lines()))


@app.command()
def play(
    title: Annotated[str, typer.Argument(help="Words of the film's title.")],
    country: Annotated[str, typer.Option(help="Where the member lives.")] = "US",
    home: HomeOption = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Sign a member up and print the whole answer of one Play."""
    from deploy.member import Member

    async def run() -> httpx.Response:
        member = Member(_gateway(home), SYSTEM)
        try:
            await member.sign_up(country=country)
            found = await member.find(title)
            return await member.play(found["title_id"], "cli")
        finally:
            await member.close()

    response = _run(run())
    indent = -1 if as_json else 2
    say(msgspec.json.format(response.content, indent=indent).decode())
    if response.status_code >= 400:
        raise SystemExit(1)


@app.command()
def token(
    country: Annotated[str, typer.Option(help="Where the member lives.")] = "US",
    home: HomeOption = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Sign a member up and print its access token, for your own requests."""
    from deploy.member import Member

    async def run() -> dict[str, str]:
        member = Member(_gateway(home), SYSTEM)
        try:
            await member.sign_up(country=country)
        finally:
            await member.close()
        return {
            "access_token": member.token,
            "account_id": member.account_id,
            "profile_id": member.profile_id,
        }

    answer = _run(run())
    if as_json:
        _print_json(answer)
    else:
        say(answer["access_token"])


@app.command()
def explain(
    trace_id: Annotated[str, typer.Argument(help="A trace id, as answers and logs show it.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Draw one request across all processes."""
    from deploy.explain import gather, waterfall

    spans = _run(gather(home.absolute(), trace_id))
    if as_json:
        _print_json(spans)
    if not spans:
        raise _fail(f"no process remembers the trace {trace_id}; only the last few thousand are")
    if as_json:
        return
    for line in waterfall(spans):
        say(line)


@catalog.command("ingest")
def catalog_ingest(
    source: Annotated[Path | None, typer.Argument(help="A CSV of films; default: ours.")] = None,
    home: HomeOption = DEFAULT_HOME,
    report_all: Annotated[bool, typer.Option("--rows", help="List every row touched.")] = False,
    as_json: Json = False,
) -> None:
    """Load films into the catalogue and their licence windows; report every row touched."""
    from deploy.backing import settings_of
    from deploy.catalogue import fill
    from deploy.ingest import FILMS

    async def run(progress: Callable[[float], None]) -> Any:
        return await fill(settings_of(home.absolute()), source or FILMS, SYSTEM, progress)

    report = _with_progress("ingesting", run, quiet=as_json)
    if as_json:
        _print_json(report.as_dict())
    else:
        say(report.as_text(every_note=report_all))


@app.command()
def gateway(
    document: Annotated[
        Path,
        typer.Option(
            "--rules", envvar="STAGEDOOR_RULES", help="The rules document (YAML or JSON)."
        ),
    ],
    listen: Annotated[
        list[str] | None,
        typer.Option(
            envvar="STAGEDOOR_LISTEN",
            help="Where traffic comes in: host:port, tls://host:port?cert=FILE&key=FILE or "
            "unix:///path; may be given several times. Default: 127.0.0.1:8080",
        ),
    ] = None,
    admin: Annotated[
        str, typer.Option(envvar="STAGEDOOR_ADMIN", help="host:port for the admin API.")
    ] = "127.0.0.1:9901",
    registry: Annotated[
        str,
        typer.Option(
            envvar="STAGEDOOR_REGISTRY", help="consul://host:port, when rules name services."
        ),
    ] = "",
    trust: Annotated[
        list[str] | None,
        typer.Option(
            envvar="STAGEDOOR_TRUSTED_PROXIES",
            help="A CIDR, or unix: proxies whose X-Forwarded-… and Forwarded fields are believed.",
        ),
    ] = None,
    trust_hops: Annotated[
        int,
        typer.Option(
            envvar="STAGEDOOR_TRUSTED_HOPS",
            help="How many proxies always stand in front, wherever they are.",
            min=0,
        ),
    ] = 0,
    home: HomeOption = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Run the gateway alone, in front of anything that speaks HTTP, until Ctrl-C."""
    from gateway.app import run
    from gateway.settings import Settings
    from gateway.worker import Worker

    def ready(worker: Worker) -> None:
        urls, admin = worker.listeners.urls, f"http://{worker.admin_address}"
        if as_json:
            _print_json({"listening": urls, "admin": admin})
        else:
            say(f"listening on {', '.join(urls)}; admin API on {admin}; Ctrl-C drains and stops")

    settings = Settings(
        rules=document,
        listen=" ".join(listen or ["127.0.0.1:8080"]),
        admin=admin,
        registry=registry,
        home=home.absolute(),
        trusted_proxies=tuple(trust or ()),
        trusted_hops=trust_hops,
    )
    run(settings, ready)


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="A service, such as play_api.")],
) -> None:
    """Run one service alone in the foreground, set by STAGEDOOR_… in the environment, until
    SIGTERM: how a container runs it (docs/operations.md)."""
    from deploy.alone import run

    run(name)


@app.command()
def prepare(as_json: Json = False) -> None:
    """Make what services that run alone need, unless it is there: keyring, bucket, catalogue."""
    from deploy.alone import prepare

    done = _run(prepare(os.environ, SYSTEM, _quiet if as_json else say))
    if as_json:
        _print_json(done)


@rules.command("lint")
def rules_lint(
    document: Annotated[Path, typer.Argument(help="The rules document (YAML or JSON).")],
    as_json: Json = False,
) -> None:
    """Check a document as the gateway would: every fault at once, with its line."""
    from gateway.rules.build import judge

    faults = judge(_read(document), str(document), SYSTEM, folder=document.parent)
    if as_json:
        _print_json([str(fault) for fault in faults])
    else:
        say("\n".join(map(str, faults)) or f"{document}: no faults")
    if any(not fault.warning for fault in faults):
        raise SystemExit(1)


@rules.command("explain")
def rules_explain(
    method: Annotated[str, typer.Argument(help="GET, POST, …")],
    url: Annotated[str, typer.Argument(help="A path, or a whole URL when the host matters.")],
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="NAME: VALUE")] = None,
    document: Annotated[
        Path | None, typer.Option("--rules", help="Default: the running system's rules.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Say which rule wins for a request, and why each near miss did not."""
    from gateway.rules.build import build
    from gateway.rules.explain import explain, request_of

    file = document or home / "rules.yaml"
    headers = dict(_header(text) for text in header or [])
    snapshot, _ = build(_read(file), str(file), SYSTEM, version=0, folder=file.parent)
    try:
        request = request_of(method, url, headers=headers)
    except ValueError as fault:
        raise ConfigurationFault([f"{url!r}: {fault}"], what="the URL") from None
    told = explain(snapshot, request)
    if as_json:
        _print_json(told)
    else:
        say(f"{told.request}: {told.winner or 'no rule (404)'}: {told.because}; {told.action}")
        if told.attempts:
            say(f"  {told.attempts}")
        for miss in told.misses:
            say(f"  not {miss.rule}: {'; '.join(miss.reasons)}")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as fault:
        raise ConfigurationFault([f"{file}: {fault.strerror}"], what="the rules document") from None


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ConfigurationFault([f"{text!r}: write NAME: VALUE"], what="--header")
    return name.strip(), value.strip()


def say(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as fault:
        _silence()
        raise StagedoorError(f"standard output cannot be written: {fault.strerror}") from None


def _quiet(text: str) -> None:
    pass


def _print_json(value: Any) -> None:
    say(msgspec.json.encode(value).decode())


def _run(work: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(work)


def _with_progress(
    what: str, work: Callable[[Callable[[float], None]], Awaitable[T]], *, quiet: bool
) -> T:
    """Runs `work` under a progress bar on a terminal, silently in a pipe."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(what, total=1.0)

        async def run() -> T:
            return await work(lambda done: bar.update(task, completed=done))

        return uvloop.run(run())


def _gateway(home: Path) -> str:
    state = Home(home).read_state() if Home(home).is_running() else None
    if state is None:
        raise NotFound(f"no system is running in {home}: start one with `make run`")
    return str(state["gateway"])


async def _control(home: Path, method: str, path: str, **options: Any) -> Any:
    transport = httpx.AsyncHTTPTransport(uds=str(Home(home).control_socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as http:
        try:
            response = await http.request(method, path, **options)
        except httpx.TransportError:
            raise ConnectFailed(
                f"no system is running in {home}: start one with `make run`"
            ) from None
    if response.status_code >= 400:
        raise StagedoorError(_detail(response))
    return response.json()


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{response.request.url.path}: {response.status_code} {response.text}"


def _port(number: int) -> int:
    if not 0 <= number <= 65535:
        raise ConfigurationFault([f"{number} is not a port; write 0 to 65535"], what="the port")
    return number


def _counts(pairs: list[str]) -> dict[str, int]:
    counts = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        if not (number.isascii() and number.isdigit()):
            raise ConfigurationFault(
                [f"{pair!r}: write NAME=N, such as rights=2"], what="--instances"
            )
        counts[name] = int(number)
    return counts


def _fail(message: str) -> SystemExit:
    print(f"stagedoor: {message}", file=sys.stderr)
    return SystemExit(1)


def main() -> None:
    """The entry point: failures of our tree are one message, others keep their traceback."""
    _fill_streams()
    try:
        app()
    except (ConfigurationFault, SchemaFault) as fault:
        print(f"stagedoor: {fault}", file=sys.stderr)
        raise SystemExit(2) from None
    except StagedoorError as failure:
        raise _fail(str(failure)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        _silence()


def _fill_streams() -> None:
    """Opens the standard streams that the caller has closed: otherwise a socket would take their
    numbers, and the event loop would not let it go."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0, "r", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _silence() -> None:
    """What is still to be written to standard output goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    main()
