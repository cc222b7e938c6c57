"""Who asks, by the certificate that the client has proved to be its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from chassis.errors import Forbidden, Unauthenticated
from chassis.identity import Claims
from chassis.telemetry.metrics import CounterFamily
from gateway.edge.client_certificate import Certificate
from gateway.filters.authenticate import Authenticate
from gateway.rules.model import ClientCertificate

if TYPE_CHECKING:
    from gateway.exchange import Exchange

_KEPT = 10_000


class AuthenticateCertificate(Authenticate):
    """Denies by default. The listener's handshake has verified the certificate already; here it is
    held against the policy, once, and remembered by its fingerprint.

    Its common name, or else its first name, is the subject; rules see `subject`, `common_name`,
    `names` and `fingerprint` among the claims.
    """

    def __init__(self, wanted: ClientCertificate, results: CounterFamily) -> None:
        self._wanted = wanted
        self._results = results
        self._verified = results.child("certificate")
        self._known: dict[str, Claims] = {}

    def apply(self, exchange: Exchange) -> None:
        certificate = exchange.certificate
        if certificate is None:
            self._results.child("missing").n += 1
            raise Unauthenticated("a client certificate is needed", code="certificate_missing")
        claims = self._known.get(certificate.fingerprint)
        if claims is None:
            claims = self._judge(certificate)
        self._verified.n += 1
        exchange.identify(claims)

    def _judge(self, certificate: Certificate) -> Claims:
        if not _is_wanted(certificate, self._wanted):
            self._results.child("forbidden").n += 1
            raise Forbidden("the certificate is none of the rule's", code="certificate_refused")
        if len(self._known) >= _KEPT:
            self._known.clear()
        claims = Claims(
            certificate.common_name or next(iter(certificate.names), certificate.subject),
            math.inf,
            {
                "subject": certificate.subject,
                "common_name": certificate.common_name,
                "names": list(certificate.names),
                "fingerprint": certificate.fingerprint,
                "amr": "certificate",
                "scope": " ".join(self._wanted.scopes),
            },
        )
        self._known[certificate.fingerprint] = claims
        return claims


def _is_wanted(certificate: Certificate, wanted: ClientCertificate) -> bool:
    if not (wanted.subjects or wanted.names):
        return True
    names = {certificate.common_name, *certificate.names}
    return certificate.subject in wanted.subjects or not names.isdisjoint(wanted.names)
