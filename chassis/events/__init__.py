"""What happens, told durably: the log port, its adapters, and the spool in front of it."""

from __future__ import annotations

from chassis.events.log import Consumer, Log, Message, Record, Topic, open_log
from chassis.events.spool import Spool

__all__ = ["Consumer", "Log", "Message", "Record", "Spool", "Topic", "open_log"]
