"""Tells Prometheus what to scrape: a file_sd list kept in step with the registry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from chassis.discovery import Instance
from chassis.discovery.directory import Directory

SCRAPE = """\
# Written by `stagedoor up`; start Prometheus with --config.file on this file.
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: stagedoor
    file_sd_configs:
      - files: [targets.json]
        refresh_interval: 1s
"""


class Targets:
    """Writes `targets.json` through `write` whenever an instance comes, goes or moves."""

    def __init__(
        self,
        directory: Directory,
        services: Iterable[str],
        folder: Path,
        write: Callable[[Path, bytes], None],
        fixed: Iterable[Instance] = (),
    ) -> None:
        self._directory = directory
        self._services = tuple(services)
        self._folder = folder
        self._write = write
        self._fixed = tuple(fixed)
        self._written: bytes = b""

    def start(self) -> None:
        self._write(self._folder / "prometheus.yml", SCRAPE.encode())
        for service in self._services:
            self._directory.watch(service)
            self._directory.subscribe(service, self._changed)
        self._changed(())

    def _changed(self, instances: tuple[Instance, ...]) -> None:
        listed = [*self._fixed]
        for service in self._services:
            listed += self._directory.instances(service)
        content = render(listed)
        if content != self._written:
            self._write(self._folder / "targets.json", content)
            self._written = content


def render(instances: Iterable[Instance]) -> bytes:
    """The file_sd document: one group an instance, labelled with its stable name."""
    groups = [
        {
            "targets": [one.meta["admin"]],
            "labels": {"service": one.service, "instance": one.id},
        }
        for one in sorted(instances, key=lambda one: one.id)
        if "admin" in one.meta
    ]
    return json.dumps(groups, indent=1).encode()
