"""`stagedoor servers …`: the real servers from the command line."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from deploy.servers.running import Status
    from deploy.servers.servers import Servers

T = TypeVar("T")
Progress = Callable[[str, str], None]
HELP = "The real servers as local processes: Kafka, Cassandra, Consul, S3, Redis, Prometheus."
app = typer.Typer(no_args_is_help=True, help=HELP)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
HomeOption = Annotated[
    Path, typer.Option("--home", envvar="STAGEDOOR_HOME", help="The state directory.")
]
Names = Annotated[list[str] | None, typer.Argument(help="Which ones; all when none is named.")]
Name = Annotated[str, typer.Argument(help="A server, or one instance such as kafka-2.")]
HOME = Path("var")


@app.command()
def up(
    names: Names = None,
    port: Annotated[
        list[str] | None, typer.Option(help="NAME=PORT for clients; 0: any free one.")
    ] = None,
    brokers: Annotated[int | None, typer.Option(help="Kafka brokers, 1 to 3.")] = None,
    nodes: Annotated[int | None, typer.Option(help="Cassandra nodes, 1 to 3.")] = None,
    auth: Annotated[
        list[str] | None, typer.Option(help="A server that shall want a password.")
    ] = None,
    home: HomeOption = HOME,
    as_json: Json = False,
) -> None:
    """Install what is missing, start what does not run, and wait until all truly answer."""
    from deploy.servers import ports
    from deploy.servers.kinds import NAMES

    sizes = {"kafka": brokers, "cassandra": nodes}
    with _told(as_json) as tell:
        servers = _servers(home)
        chosen = _run(_installed(servers, names or [], tell))
        started = servers.up(
            chosen,
            ports=ports.parse(port or [], NAMES),
            sizes={name: size for name, size in sizes.items() if size is not None},
            auth=auth or [],
            tell=tell,
            say=lambda line: typer.echo(line, err=True),
        )
        _run(started)
    _show(_run(servers.status(chosen)), as_json)


async def _installed(servers: Servers, names: list[str], tell: Progress) -> list[str]:
    """Installs what is missing; without names, goes on without what is optional."""
    from chassis.errors import StagedoorError
    from deploy.servers.kinds import servers as kinds

    wanted = kinds(names) if names else kinds()
    optional = {name for name, kind in wanted.items() if kind.optional and not names}
    await servers.install([name for name in wanted if name not in optional], tell)
    left_out = set()
    for name in sorted(optional):
        try:
            await servers.install([name], tell)
        except StagedoorError as fault:
            typer.echo(f"going on without {name}: {fault}", err=True)
            left_out.add(name)
    return [name for name in wanted if name not in left_out]


@app.command()
def install(names: Names = None, home: HomeOption = HOME, as_json: Json = False) -> None:
    """Install servers into the cache folder (STAGEDOOR_SERVERS, default ~/.cache/stagedoor)."""
    from deploy.servers.kinds import NAMES

    with _told(as_json) as tell:
        done = _run(_servers(home).install(names or NAMES, tell))
    if as_json:
        _print_json(
            {name: {"version": one.version, "path": one.path} for name, one in done.items()}
        )
    else:
        for name, one in done.items():
            typer.echo(f"{name:<11} {one.version:<8} {one.path}")


@app.command()
def status(names: Names = None, home: HomeOption = HOME, as_json: Json = False) -> None:
    """Ask every server that was started here how it is."""
    from deploy.servers.kinds import NAMES

    _show(_run(_servers(home).status(names or NAMES)), as_json)


@app.command()
def down(names: Names = None, home: HomeOption = HOME, as_json: Json = False) -> None:
    """Stop servers, the last one first; their data stays."""
    from deploy.servers.kinds import NAMES

    servers = _servers(home)
    stopped = _run(servers.down(names or NAMES))
    if damage := servers.damage():
        typer.echo(f"what ran was found by its mark, as {damage}", err=True)
    if as_json:
        _print_json({"stopped": stopped})
    else:
        typer.echo(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def logs(
    name: Name,
    lines: Annotated[int, typer.Option(min=0, help="How many of the last lines.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    home: HomeOption = HOME,
    as_json: Json = False,
) -> None:
    """Print the end of a server's log."""
    from chassis.clock import SYSTEM
    from chassis.errors import ConfigurationFault
    from deploy.servers import follow as logs

    if follow and as_json:
        raise ConfigurationFault(["--json has an end, --follow has none"], what="the options")
    files = _servers(home).log_files(name)
    begin, shown = logs.sizes(files), logs.ends(files, lines)
    if as_json:
        _print_json(shown)
        return
    for instance, ended in shown.items():
        prefix = f"{instance}: " if len(shown) > 1 else ""
        for line in ended:
            typer.echo(prefix + line)
    if follow:
        _run(logs.follow(files, begin, SYSTEM, typer.echo))


@app.command()
def kill(name: Name, home: HomeOption = HOME, as_json: Json = False) -> None:
    """SIGKILL a server, as a crash would; `restart` or `up` brings it back with its data."""
    from chassis.errors import StagedoorError

    killed = _run(_servers(home).kill(name))
    if not killed:
        raise StagedoorError(f"{name} does not run: start it with `stagedoor servers up {name}`")
    if as_json:
        _print_json({"killed": killed})
    else:
        pids = ", ".join(map(str, killed))
        typer.echo(f"killed {name} (pid {pids}); `stagedoor servers restart {name}` brings it back")


@app.command()
def restart(name: Name, home: HomeOption = HOME, as_json: Json = False) -> None:
    """Stop a server and start it again on the same ports and data."""
    servers = _servers(home)
    with _told(as_json) as tell:
        running = _run(servers.restart(name, tell))
    _show(_run(servers.status([running.name])), as_json)


@app.command()
def environ(home: HomeOption = HOME, as_json: Json = False) -> None:
    """Print what a process needs to use the servers that run, passwords and keys too:
    `eval "$(stagedoor servers environ)"`."""
    import shlex

    from deploy.profiles import SERVERS, backing_of

    running = _servers(home).those_running(SERVERS)
    needed = backing_of(running).environ()
    if missing := [name for name in SERVERS if name not in running]:
        typer.echo(f"not running, so their part stays embedded: {', '.join(missing)}", err=True)
    if as_json:
        _print_json(needed)
    for name, value in needed.items() if not as_json else ():
        typer.echo(f"export {name}={shlex.quote(value)}")


def _servers(home: Path) -> Servers:
    from chassis.clock import SYSTEM
    from deploy.servers import Servers, default_cache

    return Servers(home, default_cache(os.environ), SYSTEM)


def _show(statuses: list[Status], as_json: bool) -> None:
    from deploy.servers.table import table

    if as_json:
        _print_json(statuses)
    elif statuses:
        typer.echo("\n".join(table(statuses)))
    else:
        typer.echo("no server was started here: `stagedoor servers up` does")


def _print_json(value: Any) -> None:
    import msgspec

    typer.echo(msgspec.json.encode(value, enc_hook=str).decode())


@contextmanager
def _told(quiet: bool) -> Iterator[Progress]:
    """One line a server on a terminal, with the last thing that happened; nothing in a pipe."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def tell(name: str, line: str) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=None)
            room = max(20, console.width - 24)
            bar.update(tasks[name], description=f"{name:<10} {line[:room]}")

        yield tell


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Runs to the end; SIGTERM undoes what was begun, as Ctrl-C does."""
    import uvloop

    async def run() -> T:
        task = asyncio.current_task()
        assert task is not None
        told_to_end = asyncio.get_running_loop().add_signal_handler
        told_to_end(signal.SIGTERM, task.cancel)
        return await work

    try:
        return uvloop.run(run())
    except asyncio.CancelledError:
        raise SystemExit(128 + signal.SIGTERM) from None
