"""Making keys and certificates. Loaded only when one must be made: the package behind it costs a server 8 MB for as long as it lives."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from roost.core.certificates import AUTHORITY_DAYS, LEAF_DAYS

_BEFORE = dt.timedelta(days=1)
"""How far back a certificate begins: clocks of callers may be behind ours."""


@dataclass(frozen=True, slots=True)
class Made:
    """A certificate and its key, both in PEM."""

    certificate: bytes
    key: bytes


def authority(machine: str, now_ms: int) -> Made:
    """A new authority that signs itself. `machine` tells people whose it is."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # A name of its own for each: programs look authorities up by name, and one that follows another must not be taken for it.
    subject = _subject(f"Roost authority of {machine[:32]} {serial % 0xFFFF_FFFF:08x}")
    builder = _builder(subject, subject, key.public_key(), serial, now_ms, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return _made(builder.sign(key, hashes.SHA256()), key)


def leaf(by: Made, names: Sequence[str], now_ms: int) -> Made:
    """A certificate for these names and addresses. Raises ValueError when the authority's key cannot be read, or is another's."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority_key = serialization.load_pem_private_key(by.key, None)
    issuer = x509.load_pem_x509_certificate(by.certificate)
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey) or authority_key.public_key() != issuer.public_key():
        raise ValueError("it is not the key of its certificate")
    builder = _builder(_subject("Roost server"), issuer.subject, key.public_key(), x509.random_serial_number(), now_ms, LEAF_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
            issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        ),
        critical=False,
    )
    return _made(builder.sign(authority_key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, serial: int, now_ms: int, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.fromtimestamp(now_ms / 1000, dt.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _made(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Made:
    return Made(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
