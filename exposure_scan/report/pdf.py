"""The HTML report as a PDF: the same page, tagged for screen readers, made by WeasyPrint without asking for anything.

WeasyPrint reads no media query, no part of a drawing that stands elsewhere in the page, and no colour of
the page inside a drawing. The page is adapted to that here, in its tree, and by `pdf.css.j2`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import logging
from copy import deepcopy
from datetime import UTC
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, tostring

from exposure_scan.model import Problem
from exposure_scan.model.text import html_text, terminal_text

from .material import Material
from .page import render_html
from .templates import render_template

if TYPE_CHECKING:
    from collections.abc import Mapping

_SVG = "{http://www.w3.org/2000/svg}"
_MISSING = (
    "A PDF needs WeasyPrint, which {}; install it with: pip install 'exposure-scan[pdf]', and on Debian or Ubuntu "
    "the libraries that it draws with: apt install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-dejavu"
)

# The colours on paper of what a drawing stands for, by the class of the element around it (`style.css.j2`).
_INK = "#111111"
_INKS: Mapping[str, str] = MappingProxyType(
    {
        "good": "#0d6a3f",
        "bad": "#a8231b",
        "unsure": "#7a4b00",
        "caution": "#7a4b00",
        "told": "#1c4f9c",
        "quiet": "#444444",
        "none": "#444444",
        "node": "#444444",
    }
)


def render_pdf(material: Material) -> bytes:
    """The report of one scan as a tagged PDF (PDF/UA-1), A4.

    Raises:
        Problem: WeasyPrint or a library of it is missing, or a template asks for something from elsewhere.
    """
    weasyprint = _weasyprint()
    scan = material.scan
    text = render_html(material)
    refused: list[str] = []

    class NothingFromElsewhere(weasyprint.urls.URLFetcher):  # type: ignore[misc, name-defined]
        """Opens what a ``data:`` URI holds, and no file and no connection."""

        def fetch(self, url: str, headers: Mapping[str, str] | None = None) -> object:
            if not url.lower().startswith("data:"):
                refused.append(url)
                raise ValueError("only data: URIs are opened")
            return super().fetch(url, headers)

    # With a base of its own, an address such as "logo.png" is asked of the fetcher, and not ignored in silence.
    page = weasyprint.HTML(string=text, base_url="report:/", url_fetcher=NothingFromElsewhere())
    _adapt(page.etree_element, material)
    document = page.render(pdf_variant="pdf/ua-1")
    document.metadata.created = scan.finished.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document.metadata.generator = html_text(f"{scan.scanner.name} {scan.scanner.version}", 80)
    document.metadata.authors = [html_text(scan.partner["name"], 120)] if scan.partner.get("name") else []
    identifier = hashlib.sha256(text.encode()).hexdigest()[:32].encode()
    content: bytes = document.write_pdf(pdf_variant="pdf/ua-1", pdf_identifier=identifier)
    if refused:
        raise Problem(
            f"The page asks for {terminal_text(refused[0])}, and a report opens no file and no connection; "
            "put a picture or a style into the template itself, as a data: URI."
        )
    return content


def check_pdf() -> None:
    """Make sure before a scan that a PDF can be made of it.

    Raises:
        Problem: WeasyPrint or a library of it is missing.
    """
    _weasyprint()


def _weasyprint() -> Any:
    for name in ("weasyprint", "fontTools"):  # they tell of every rule that is meant for a screen
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # where it tells of a missing library, too
            return import_module("weasyprint")
    except ImportError:
        raise Problem(_MISSING.format("is not installed")) from None
    except OSError as error:  # a shared library
        raise Problem(_MISSING.format(f"cannot be used here ({terminal_text(str(error), 120)})")) from None


def _adapt(root: Element, material: Material) -> None:
    """Put the style for paper behind the page's own, and make every drawing whole in itself."""
    head = root.find("head")
    if head is None:  # an HTML parser always makes one
        raise ValueError("a page without a head")
    style = Element("style")
    style.text = render_template("pdf.css.j2", material.templates)
    head.append(style)
    for picture in root.iter("img"):
        if not picture.get("alt"):  # a picture without a name is a fault in PDF/UA, where HTML allows it for ornaments
            picture.set("alt", "Picture")
    symbols = {symbol.get("id", ""): symbol for symbol in root.iter(f"{_SVG}symbol")}
    drawing_style = render_template("drawing.css.j2", material.templates, ink=_INK, inks=_INKS)
    _draw(root, _INK, symbols, drawing_style)


def _draw(parent: Element, ink: str, symbols: Mapping[str, Element], style: str) -> None:
    for place, child in enumerate(list(parent)):
        own = next((_INKS[word] for word in child.get("class", "").split() if word in _INKS), ink)
        if child.tag != f"{_SVG}svg":
            _draw(child, own, symbols, style)
        elif child.find(f".//{_SVG}symbol") is not None:
            parent[place] = _instead(child, {})  # the store of symbols, which is no drawing
        elif child.get("aria-hidden") == "true":
            # A background is no content: a screen reader passes over it.
            drawing = _whole(child, own, symbols, "")
            drawing.tail = None
            drawn = base64.b64encode(tostring(drawing)).decode()
            classes = f"drawn {child.get('class', '')}".strip()
            image = f"background-image:url(data:image/svg+xml;base64,{drawn})"
            parent[place] = _instead(child, {"class": classes, "style": image})
        else:
            parent[place] = _whole(child, own, symbols, style)


def _instead(drawing: Element, attributes: dict[str, str]) -> Element:
    span = Element("span", attributes)
    span.tail = drawing.tail
    return span


def _whole(drawing: Element, ink: str, symbols: Mapping[str, Element], style: str) -> Element:
    """The drawing with its colour, its style, the symbols that it uses, and its name as a title."""
    whole = deepcopy(drawing)
    whole.set("color", ink)
    used = [symbols.get(use.get("href", "").removeprefix("#")) for use in whole.iter(f"{_SVG}use")]
    if len(whole) == 1 and used and used[0] is not None:  # nothing but one symbol
        whole[:] = deepcopy(list(used[0]))
        whole.set("viewBox", used[0].get("viewBox", ""))
    else:
        store = Element(f"{_SVG}defs")
        store.extend(deepcopy(symbol) for symbol in dict.fromkeys(used) if symbol is not None)
        whole.insert(0, store)
    if style:
        rules = Element(f"{_SVG}style")
        rules.text = style
        whole.insert(0, rules)
    if label := drawing.get("aria-label"):
        title = Element(f"{_SVG}title")
        title.text = label
        whole.insert(0, title)
    return whole
