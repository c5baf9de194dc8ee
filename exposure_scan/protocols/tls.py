"""What a peer's certificate says. It is read and never trusted: old gear shows odd ones."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from exposure_scan.conversation import Secured
from exposure_scan.model import Tls

from .words import LONGEST

if TYPE_CHECKING:
    from cryptography import x509

_MOST_NAMES = 100
_SOON = timedelta(days=30)
# Versions as the library names them: their own name, and the document that put them out of use.
_OUTDATED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "SSLv2": ("SSL 2.0", "RFC 6176, 2011"),
        "SSLv3": ("SSL 3.0", "RFC 7568, 2015"),
        "TLSv1": ("TLS 1.0", "RFC 8996, 2021"),
        "TLSv1.1": ("TLS 1.1", "RFC 8996, 2021"),
    }
)


def certificate_facts(secured: Secured) -> Tls:
    """The session and its certificate (RFC 5280; names as RFC 4514 text).

    A certificate that cannot be read, in whole or in part, leaves those facts out; the SHA-256 of its
    DER form is always there.
    """
    der = secured.certificate
    facts = Tls(version=secured.version, cipher=secured.cipher or None)
    return facts.model_copy(update=_read(der)) if der else facts


@lru_cache(maxsize=64)  # a host shows the same one on several ports
def _read(der: bytes) -> Mapping[str, object]:
    """The facts of a certificate, by their names in `Tls`."""
    digest: dict[str, object] = {"sha256": hashlib.sha256(der).hexdigest()}
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    # KeyError: cryptography 46 on a name whose text is of an unknown ASN.1 type.
    unreadable = (ValueError, TypeError, KeyError, OverflowError, x509.InvalidVersion, UnsupportedAlgorithm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cryptography warns of what old devices put into certificates
        try:
            certificate = x509.load_der_x509_certificate(der)
            return digest | {
                "subject": certificate.subject.rfc4514_string()[:LONGEST],
                "issuer": certificate.issuer.rfc4514_string()[:LONGEST],
                "not_before": certificate.not_valid_before_utc,
                "not_after": certificate.not_valid_after_utc,
                "names": _names(certificate),
                "self_signed": _self_signed(certificate),
            }
        except unreadable:
            return digest


def said(tls: Tls) -> dict[str, str]:
    """The certificate's names as fingerprint fields."""
    fields = {"tls.subject": tls.subject, "tls.issuer": tls.issuer}
    return {field: value for field, value in fields.items() if value}


def certificate_notes(tls: Tls, on: datetime) -> tuple[str, ...]:
    """What stands out about a session and its certificate, a sentence each; no breach of any practice.

    Args:
        tls: the session as `certificate_facts` gave it.
        on: when it was seen; one without a zone is taken to be UTC.
    """
    on = _utc(on)
    notes = []
    begins, ends = (when and _utc(when) for when in (tls.not_before, tls.not_after))
    if ends is not None and ends < on:
        notes.append(f"The certificate expired on {ends.date()}.")
    elif ends is not None and ends <= on + _SOON:
        days = (ends - on).days
        left = "within a day" if days < 1 else f"in {days} day{'' if days == 1 else 's'}"
        notes.append(f"The certificate expires on {ends.date()}, {left}.")
    if begins is not None and begins > on:
        notes.append(f"The certificate is valid only from {begins.date()} on.")
    if tls.version in _OUTDATED:
        name, retired = _OUTDATED[tls.version]
        notes.append(f"It chose {name}, which is out of use ({retired}), although newer versions were offered.")
    return tuple(notes)


def _utc(when: datetime) -> datetime:
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The subject alternative names, DNS names first."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = names.get_values_for_type(x509.DNSName)
        addresses = names.get_values_for_type(x509.IPAddress)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ()
    except (ValueError, TypeError):
        return ()
    return tuple(str(name)[:LONGEST] for name in (*dns, *addresses))[:_MOST_NAMES]


def _self_signed(certificate: x509.Certificate) -> bool:
    """Whether the certificate vouches for itself, by its names and by its signature."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    if certificate.subject != certificate.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
    except InvalidSignature:
        return False
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return True  # signed in a way that is not supported here; its names say who signed
    return True
