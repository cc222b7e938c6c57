"""Decides how servers will run, and refuses before anything starts: everything at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chassis.clock import Clock
from chassis.errors import ConfigurationFault
from deploy.servers.folders import Folders
from deploy.servers.installed import Installed
from deploy.servers.placement import Taken, moved, place, taken_ports
from deploy.servers.processes import is_alive
from deploy.servers.room import available_memory, disk_fault, memory_fault
from deploy.servers.server import Server, Setup
from deploy.servers.state import ServerState

NEEDS_FREE = 256 << 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller wants of servers by name: see `Servers.up`."""

    ports: Mapping[str, int]
    sizes: Mapping[str, int]
    auth: frozenset[str]


@dataclass(frozen=True, slots=True)
class Arrangement:
    kind: Server
    state: ServerState
    setup: Setup


def arrange(
    kinds: Mapping[str, Server],
    installed: Mapping[str, Installed],
    folders: Folders,
    asked: Asked,
    clock: Clock,
) -> list[Arrangement]:
    """How each will run. Nothing is written before everything has been found possible."""
    known = folders.known()
    taken = Taken.of(known.values())
    faults = [
        f"there is no server {name!r} to start with --auth: there are {', '.join(kinds)}"
        for name in sorted(asked.auth - kinds.keys())
    ]
    states: dict[str, ServerState] = {}
    for name, kind in kinds.items():
        state = known.get(name)
        found = [*_forgotten(folders, kind, state), *refused(kind, state, asked)]
        if not found:
            try:
                states[name] = _state(kind, state, asked, taken, clock)
            except ConfigurationFault as fault:
                found = [*fault.faults]
            else:
                found = _in_the_way(kind, states[name])
        faults += found
    faults += _no_room(folders, kinds, states)
    if faults:
        raise ConfigurationFault(faults, what="the servers")
    for name, state in states.items():
        folders.state.write(name, state)
        _keep_secrets(folders, kinds[name], state, clock)
    return [
        Arrangement(kind, states[name], folders.setup(name, states[name], installed[name]))
        for name, kind in kinds.items()
    ]


def _forgotten(folders: Folders, kind: Server, state: ServerState | None) -> list[str]:
    """Two processes on one folder of data would spoil it."""
    running = [] if state else [*folders.running(kind.name)]
    return [
        f"{', '.join(running)} runs here and nothing is remembered of it: {_stop(kind)}"
        for _ in running[:1]
    ]


def refused(kind: Server, state: ServerState | None, asked: Asked) -> list[str]:
    """What cannot be had of this server as it is, or was; each with what to do."""
    size = asked.sizes.get(kind.name)
    if kind.name in asked.auth and not kind.takes_password:
        return [f"{kind.name} has no password to ask for: leave out --auth {kind.name}"]
    if size is not None and not 1 <= size <= kind.most_instances:
        return [f"{kind.name} runs as 1 to {kind.most_instances} instances, not {size}"]
    last = asked.ports.get(kind.name, 0) + (size or 1) - 1
    if last > 65535 and not kind.own_addresses:
        return [f"{kind.name}: {size} instances from that port on would need port {last}"]
    if state is None:
        return []
    faults = []
    here = len(state.instances)
    if size is not None and size != here:
        faults.append(
            f"{kind.name} has the data of {here} and you ask for {size}: stop it and remove its"
            " folder below servers/ to start anew, or use another STAGEDOOR_HOME"
        )
    runs = any(is_alive(one.process) for one in state.instances)
    port = state.instances[0].ports["main"]
    if runs and asked.ports.get(kind.name, 0) not in (0, port):
        faults.append(f"{kind.name} runs on port {port}: {_stop(kind)}")
    if runs and kind.name in asked.auth and not state.auth:
        faults.append(f"{kind.name} runs without a password: {_stop(kind)}")
    return faults


def _stop(kind: Server) -> str:
    return f"`stagedoor servers down {kind.name}` first"


def _state(
    kind: Server, state: ServerState | None, asked: Asked, taken: Taken, clock: Clock
) -> ServerState:
    port = asked.ports.get(kind.name)
    if state is None:
        size = asked.sizes.get(kind.name, 1)
        state = place(kind, size, port, taken, clock)
    elif port is not None and not any(is_alive(one.process) for one in state.instances):
        state = moved(kind, state, port, taken, clock)
    return ServerState(state.instances, state.auth or kind.name in asked.auth)


def _in_the_way(kind: Server, state: ServerState) -> list[str]:
    return [
        f"{kind.name}: port {port} of {address} is taken by another process: free it, or choose"
        f" another with --port {kind.name}=PORT (0: any free one)"
        for address, port in taken_ports(state)
    ]


def _no_room(
    folders: Folders, kinds: Mapping[str, Server], states: Mapping[str, ServerState]
) -> list[str]:
    wanted = {
        name: kinds[name].memory * sum(not is_alive(one.process) for one in state.instances)
        for name, state in states.items()
    }
    fault = memory_fault(wanted, available_memory())
    if any(wanted.values()):
        faults = (fault, disk_fault(folders.root, NEEDS_FREE, "STAGEDOOR_HOME"))
        return [one for one in faults if one]
    return []


def _keep_secrets(folders: Folders, kind: Server, state: ServerState, clock: Clock) -> None:
    kept = folders.secrets(kind.name)
    wanted = kind.fresh_secrets(clock, auth=state.auth)
    if wanted.keys() - kept.keys():
        folders.keep_secrets(kind.name, {**wanted, **kept})
