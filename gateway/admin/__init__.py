"""The gateway's own port: what it serves, why, and how it is."""

from gateway.admin.api import Operations, admin_app

__all__ = ["Operations", "admin_app"]
