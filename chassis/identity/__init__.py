"""Who a caller is: tokens from outside (JWT by JWKS), the passport and sealed values inside."""

from chassis.identity.jwks import Jwks
from chassis.identity.passport import PASSPORT_HEADER, Passport, PassportSigner, PassportVerifier
from chassis.identity.seal import Keyring, Seal
from chassis.identity.tokens import Claims, TokenPolicy, TokenVerifier

__all__ = [
    "PASSPORT_HEADER",
    "Claims",
    "Jwks",
    "Keyring",
    "Passport",
    "PassportSigner",
    "PassportVerifier",
    "Seal",
    "TokenPolicy",
    "TokenVerifier",
]
