"""What a peer's certificate says. It is read and never trusted: old gear shows odd ones."""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING

from exposure_scan.conversation import Secured
from exposure_scan.model import Tls

from .words import LONGEST

if TYPE_CHECKING:
    from cryptography import x509

_MOST_NAMES = 100


def certificate_facts(secured: Secured) -> Tls:
    """The session and its certificate (RFC 5280; names as RFC 4514 text).

    A certificate that cannot be read, in whole or in part, leaves those facts out; the SHA-256 of its
    DER form is always there.
    """
    der = secured.certificate
    facts = Tls(
        version=secured.version,
        cipher=secured.cipher or None,
        sha256=hashlib.sha256(der).hexdigest() if der else None,
    )
    if not der:
        return facts
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    unreadable = (ValueError, TypeError, OverflowError, x509.InvalidVersion, UnsupportedAlgorithm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cryptography warns of what old devices put into certificates
        try:
            certificate = x509.load_der_x509_certificate(der)
            return facts.model_copy(
                update={
                    "subject": certificate.subject.rfc4514_string()[:LONGEST],
                    "issuer": certificate.issuer.rfc4514_string()[:LONGEST],
                    "not_before": certificate.not_valid_before_utc,
                    "not_after": certificate.not_valid_after_utc,
                    "names": _names(certificate),
                    "self_signed": _self_signed(certificate),
                }
            )
        except unreadable:
            return facts


def said(tls: Tls) -> dict[str, str]:
    """The certificate's names as fingerprint fields."""
    fields = {"tls.subject": tls.subject, "tls.issuer": tls.issuer}
    return {field: value for field, value in fields.items() if value}


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
