"""Throw-away certificates for servers that tests start."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_SINCE = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_UNTIL = datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC)


def contexts(directory: Path, name: str = "localhost") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context for `name` and a client's that trusts just that server."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_SINCE)
        .not_valid_after(_UNTIL)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    both = directory / f"{name}.pem"
    both.write_bytes(secret + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(both)
    return server, ssl.create_default_context(cadata=pem.decode())


class Authority:
    """Signs certificates for servers and clients, and writes them with their keys into `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tests")])
        self._serial = 1
        certificate = (
            self._builder(self._name, self._key, _SINCE, _UNTIL)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.file = folder / "ca.pem"
        self.file.write_text(self.pem)

    def issue(
        self,
        name: str,
        *names: str,
        organization: str = "",
        since: datetime.datetime = _SINCE,
        until: datetime.datetime = _UNTIL,
        passphrase: str = "",
    ) -> tuple[Path, Path]:
        """The files `NAME.pem` and `NAME.key`; again: other ones in their place."""
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if organization:
            parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        alternative = x509.SubjectAlternativeName([x509.DNSName(one) for one in names or (name,)])
        certificate = (
            self._builder(x509.Name(parts), key, since, until)
            .add_extension(alternative, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        lock: serialization.KeySerializationEncryption = (
            serialization.BestAvailableEncryption(passphrase.encode())
            if passphrase
            else serialization.NoEncryption()
        )
        both = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        both[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        both[1].write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        )
        return both

    def client(self, *, show: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """A client's context that trusts nobody else, and shows a certificate when asked."""
        context = ssl.create_default_context(cadata=self.pem)
        if show is not None:
            context.load_cert_chain(*show)
        return context

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        since: datetime.datetime,
        until: datetime.datetime,
    ) -> x509.CertificateBuilder:
        self._serial += 1
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(self._serial)
            .not_valid_before(since)
            .not_valid_after(until)
        )
