"""Whose certificates a client trusts: what `?ca=` of a URL names, else the system's."""

from __future__ import annotations

import ssl

from chassis.errors import ConfigurationFault


def trusting(ca: str, *, what: str) -> ssl.SSLContext:
    """A client's context that checks the server's name; `ca` "" trusts the system's authorities.

    `ConfigurationFault` about `what` when there is no certificate to be read in the file.
    """
    try:
        return ssl.create_default_context(cafile=ca or None)
    except ssl.SSLError:
        why = "holds no certificate"
    except OSError as fault:
        why = (fault.strerror or "cannot be read").lower()
    advice = "name a PEM file with the certificate of the servers' authority"
    raise ConfigurationFault([f"ca={ca!r}: {why}; {advice}"], what=what)
