"""The partner's own look, judged anew: a saved scan may have been written by anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exposure_scan.model import Scan
from exposure_scan.model.colour import READABLE, contrast, is_colour
from exposure_scan.model.picture import is_logo_uri


@dataclass(frozen=True, slots=True)
class Brand:
    """What of the partner's look may be shown; None is the product's own.

    White text is readable on `accent`, and `accent` on white. `logo` is markup, which a template shows
    uncut: a ``data:`` URI of a PNG, JPEG or WebP picture.
    """

    accent: str | None
    logo: str | None


def brand(scan: Scan) -> Brand:
    """The accent and the logo of the scan's partner, each only where it is what it should be."""
    return partner_brand(scan.partner)


def partner_brand(partner: Mapping[str, str]) -> Brand:
    """The same from the words of the sites file."""
    from markupsafe import Markup

    accent, logo = partner.get("accent", ""), partner.get("logo", "")
    return Brand(
        accent.lower() if is_colour(accent) and contrast(accent) >= READABLE else None,
        Markup(logo) if is_logo_uri(logo) else None,  # noqa: S704 - nothing but letters, digits and :;,+/=
    )
