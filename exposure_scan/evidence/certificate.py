"""A certificate for the customer's copy: what names its owner or the device is masked (X.690; RFC 5280).

Every length stays, so the DER form stays well-formed. The same facts can be read of it, with ``x`` in place of
names and numbers; whether it vouches for itself is one of them and comes out as before.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator
from typing import NamedTuple

from .masks import X, mask

_INTEGER, _OCTETS = 0x02, 0x04
_STRINGS = frozenset({0x0C, 0x12, 0x13, 0x14, 0x16, 0x1A, 0x1B})  # a byte a character, or UTF-8
_WIDE = {0x1C: 4, 0x1E: 2}  # UniversalString, BMPString: bytes of a character
_GENERAL_NAMES = frozenset({0x81, 0x82, 0x86})  # RFC 5280, section 4.2.1.6: mail address, host, URI
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_COUNTRY = b"\x55\x04\x06"  # two letters by rule, and nobody's secret
_KEY_NUMBERS = {  # extensions that hold numbers of keys and certificates, with the tags of those
    b"\x55\x1d\x0e": frozenset({_OCTETS}),  # of the subject's key
    b"\x55\x1d\x23": frozenset({0x80, 0x82}),  # of the authority's key and certificate
}
_DEEPEST = 12


class _Item(NamedTuple):
    """One TLV: its tag, and where its content lies."""

    tag: int
    start: int
    end: int


class _Form(NamedTuple):
    """Where the parts of a certificate lie that are masked."""

    numbers: list[_Item]
    texts: list[_Item]
    issuer: _Item
    subject: _Item
    key: _Item  # the bits
    algorithm: _Item  # the identifier beside the signature
    signature: _Item


def mask_certificate(
    der: bytes, own: Collection[bytes], words: re.Pattern[bytes] | None, spare: Collection[bytes] = ()
) -> bytes:
    """The certificate with its names and numbers masked. The arguments are those of `masks.mask`; never fails.

    A name that is in `spare` as a whole is masked as any text. What is no certificate is masked as text, too.
    """
    try:
        form = _form(der)
    except ValueError:
        return mask(der, own, words, spare)
    made = bytearray(der)
    for item in form.numbers:
        made[item.start : item.end] = X * (item.end - item.start)
    for item in form.texts:
        value = der[item.start : item.end]
        made[item.start : item.end] = mask(value, own, words, spare) if value in spare else _filled(item)
    alone = _vouches_for_itself(der)
    if alone:
        made[form.algorithm.end - 1 : form.algorithm.end] = X  # else its signature would be tried, and not fit
    if alone or made[form.issuer.start : form.issuer.end] != made[form.subject.start : form.subject.end]:
        for item in (form.key, form.signature):
            made[item.start + 1 : item.end] = X * (item.end - item.start - 1)  # the first byte counts unused bits
    return bytes(made)


def certificate_texts(der: bytes) -> Iterator[bytes]:
    """The names that are masked as a whole; none of what is no certificate."""
    try:
        yield from (der[item.start : item.end] for item in _form(der).texts)
    except ValueError:
        return


def _filled(item: _Item) -> bytes:
    size, width = item.end - item.start, _WIDE.get(item.tag, 1)
    return (bytes(width - 1) + X) * (size // width) + X * (size % width)


# --- the form ------------------------------------------------------------------------------------


def _items(der: bytes, whole: _Item) -> list[_Item]:
    """What an item's content consists of.

    Raises:
        ValueError: it is no DER.
    """
    found, start = [], whole.start
    while start < whole.end:
        tag, size, at = der[start], int.from_bytes(der[start + 1 : start + 2]), start + 2
        if size & 0x80:
            wide = size & 0x7F
            if not 1 <= wide <= 3:
                raise ValueError("a length that is none")
            size, at = int.from_bytes(der[at : at + wide]), at + wide
        if at + size > whole.end:
            raise ValueError("an item is cut short")
        found.append(_Item(tag, at, at + size))
        start = at + size
    return found


def _form(der: bytes) -> _Form:
    """The parts.

    Raises:
        ValueError: it is no certificate.
    """
    (whole,) = _items(der, _Item(0, 0, len(der)))
    tbs, algorithm, signature = _items(der, whole)
    parts = _items(der, tbs)
    if parts and parts[0].tag == _VERSION:
        parts = parts[1:]
    if len(parts) < 6:
        raise ValueError("parts are missing")
    serial, _, issuer, _, subject, key, *rest = parts
    numbers, texts = [serial], [*_names(der, issuer), *_names(der, subject)]
    for group in rest:
        if group.tag != _EXTENSIONS:
            continue
        (sequence,) = _items(der, group)
        for extension in _items(der, sequence):
            type_, *_, value = _items(der, extension)
            kept = _KEY_NUMBERS.get(der[type_.start : type_.end], frozenset())
            for one in _leaves(der, value, 0):
                if one.tag in _STRINGS or one.tag in _WIDE or one.tag in _GENERAL_NAMES - kept:
                    texts.append(one)
                elif one.tag in kept:
                    numbers.append(one)
    _, bits = _items(der, key)
    oid, *_ = _items(der, algorithm)
    if min(oid.end - oid.start, bits.end - bits.start, signature.end - signature.start) < 1:
        raise ValueError("a part is empty")
    return _Form(numbers, texts, issuer, subject, bits, oid, signature)


def _names(der: bytes, name: _Item) -> Iterator[_Item]:
    for part in _items(der, name):
        for pair in _items(der, part):
            type_, value = _items(der, pair)
            if der[type_.start : type_.end] != _COUNTRY:
                yield value


def _leaves(der: bytes, item: _Item, depth: int) -> Iterator[_Item]:
    """Everything below an extension's value that holds no further items."""
    below: list[_Item] = []
    if depth <= _DEEPEST and (item.tag & 0x20 or (depth == 0 and item.tag == _OCTETS)):
        try:
            below = _items(der, item)
        except ValueError:
            below = []
    if not below:
        yield item
    for one in below:
        yield from _leaves(der, one, depth + 1)


def _vouches_for_itself(der: bytes) -> bool:
    """Whether it names itself as its issuer, and its signature fits or cannot be tried."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cryptography warns of what old devices put into certificates
        try:
            certificate = x509.load_der_x509_certificate(der)
            if certificate.subject != certificate.issuer:
                return False
        except (ValueError, TypeError, OverflowError, x509.InvalidVersion, UnsupportedAlgorithm):
            return False
        try:
            certificate.verify_directly_issued_by(certificate)
        except InvalidSignature:
            return False
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return True
    return True
