"""The embedded registry's answers, as Consul writes them."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from starlette.responses import Response

from chassis.discovery.catalog import Check, Service
from chassis.discovery.keys import Entry
from chassis.discovery.sessions import Session

NODE = "embedded"
ADDRESS = "127.0.0.1"
DATACENTER = "dc1"


def indexed(index: int) -> dict[str, str]:
    return {
        "X-Consul-Index": str(index),
        "X-Consul-KnownLeader": "true",
        "X-Consul-LastContact": "0",
    }


def json(value: Any, index: int | None = None, *, status: int = 200) -> Response:
    headers = {} if index is None else indexed(index)
    body = b"" if status == 404 else msgspec.json.encode(value)
    return Response(body, status, headers, "application/json")


def of_entry(entry: Entry) -> dict[str, Any]:
    return {
        "LockIndex": entry.lock_index,
        "Key": entry.key,
        "Flags": entry.flags,
        "Value": base64.b64encode(entry.value).decode() if entry.value else None,
        "CreateIndex": entry.create_index,
        "ModifyIndex": entry.modify_index,
        **({"Session": entry.session} if entry.session else {}),
    }


def of_session(session: Session) -> dict[str, Any]:
    return {
        "ID": session.id,
        "Name": session.name,
        "Node": NODE,
        "TTL": f"{session.ttl_s:g}s" if session.ttl_s else "",
        "LockDelay": int(session.lock_delay_s * 1e9),
        "Behavior": session.behavior,
        "NodeChecks": ["serfHealth"],
        "CreateIndex": session.index,
        "ModifyIndex": session.index,
    }


def of_service(service: Service) -> dict[str, Any]:
    return {
        "ID": service.id,
        "Service": service.name,
        "Tags": service.tags,
        "Address": service.address,
        "Meta": service.meta,
        "Port": service.port,
        "Weights": {"Passing": 1, "Warning": 1},
        "EnableTagOverride": False,
        "CreateIndex": service.created,
        "ModifyIndex": service.index,
    }


def of_check(check: Check, service: Service) -> dict[str, Any]:
    return {
        "Node": NODE,
        "CheckID": check.id,
        "Name": check.name,
        "Status": check.status,
        "Notes": check.notes,
        "Output": check.output,
        "ServiceID": service.id,
        "ServiceName": service.name,
        "ServiceTags": service.tags,
        "Type": "ttl",
        "CreateIndex": service.created,
        "ModifyIndex": check.index,
    }


def of_health(service: Service) -> dict[str, Any]:
    node = {"Node": NODE, "Address": ADDRESS, "Datacenter": DATACENTER, "Meta": {}}
    checks = [of_check(check, service) for check in service.checks.values()]
    return {"Node": node, "Service": of_service(service), "Checks": checks}
