"""The report on paper: the same content as the page, readable by a screen reader, made without asking for anything."""

from __future__ import annotations

import io
import logging
import os
import re
import socket
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import samples
from pictures import png, uri

from exposure_scan.history import look_of, past
from exposure_scan.model import Past, Problem, Scan
from exposure_scan.report import pdf
from exposure_scan.report.material import Material

try:
    import pypdf

    import_module("weasyprint")
except (ImportError, OSError) as missing:
    WHY = f"WeasyPrint, a library that it needs, or pypdf is missing: {missing}"
    needs_weasyprint = pytest.mark.skip(reason=WHY)
else:
    needs_weasyprint = pytest.mark.filterwarnings("default::DeprecationWarning")  # of WeasyPrint itself

DARK = ("#10141a", "#181e27", "#e8ebf0", "#ffa198", "#3d1a18")  # of the page in the dark (`style.css.j2`)


def material(scan: Scan, *, history: Past | None = None, templates: Path | None = None) -> Material:
    return Material(scan, samples.PRACTICES, history or Past(), templates)


class Paper:
    """A PDF as its readers see it."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.file: Any = pypdf.PdfReader(io.BytesIO(content))
        self.text = " ".join(" ".join(page.extract_text() for page in self.file.pages).split())
        # Where a line ends inside a word, the text of a PDF has a space.
        self.letters = self.text.replace(" ", "")
        self.root: Any = self.file.trailer["/Root"]

    def has(self, words: str) -> bool:
        return words.replace(" ", "") in self.letters

    def elements(self) -> Iterator[Any]:
        """Every element of the structure that a screen reader follows."""
        waiting = [self.root["/StructTreeRoot"]]
        while waiting:
            node = waiting.pop().get_object()
            if isinstance(node, pypdf.generic.ArrayObject):
                waiting.extend(node)
            elif isinstance(node, pypdf.generic.DictionaryObject):
                if "/S" in node:
                    yield node
                waiting.append(node.get("/K", pypdf.generic.NullObject()))

    def drawn(self) -> str:
        """What the pages themselves draw, as PDF operators."""
        return "\n".join(page.get_contents().get_data().decode("latin-1") for page in self.file.pages)

    def drawings(self) -> list[str]:
        """The drawings that the pages are tiled with, as PDF operators."""
        objects = [self.file.get_object(number) for number in range(1, int(self.file.trailer["/Size"]))]
        forms = [
            one for one in objects if isinstance(one, pypdf.generic.StreamObject) and one.get("/Subtype") == "/Form"
        ]
        return [form.get_data().decode("latin-1") for form in forms]


def colours(operators: str, names: str) -> set[str]:
    used = re.findall(rf"([\d.]+) ([\d.]+) ([\d.]+) (?:{names})\b", operators)
    return {"#" + "".join(f"{round(float(level) * 255):02x}" for level in levels) for levels in used}


@pytest.fixture(scope="module")
def exposed() -> Paper:
    return Paper(pdf.render_pdf(material(samples.exposed_server())))


@pytest.fixture
def complaints(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What WeasyPrint could not draw."""
    caplog.set_level(logging.ERROR, "weasyprint")
    return lambda: [record.getMessage()[:200] for record in caplog.records if record.levelno >= logging.ERROR]


# --- what is read --------------------------------------------------------------------------------


@needs_weasyprint
def test_the_verdict_and_every_practice_with_its_details_are_on_paper(exposed: Paper) -> None:
    assert exposed.has("NO-GO 5 important security practices are broken")
    for id_, title, severity, _, _ in samples.ROWS:
        assert exposed.has(title)
        # closed on the page until somebody opens it
        assert exposed.has(f"Sample reason of {id_}.")
        assert exposed.has(f"Practice {id_}")
        assert exposed.has(severity.value)
    assert exposed.has("server.stealth is not met on 198.51.100.10; sample owner waived it")  # behind "1 more reason"
    assert exposed.has("exposed-server Page 1 of ")


@needs_weasyprint
def test_the_pages_are_a4_and_few(exposed: Paper) -> None:
    sizes = {tuple(round(float(side)) for side in page.mediabox[2:]) for page in exposed.file.pages}
    assert sizes == {(595, 842)}
    assert 2 < len(exposed.file.pages) <= 12
    assert f"Page 2 of {len(exposed.file.pages)}" in exposed.text


@needs_weasyprint
def test_a_screen_reader_finds_language_title_headings_tables_and_no_nameless_picture(exposed: Paper) -> None:
    root = exposed.root
    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "en"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    assert b"pdfuaid" in root["/Metadata"].get_data()
    kinds = [str(element["/S"]) for element in exposed.elements()]
    assert kinds.count("/H1") == 1
    assert kinds.count("/H2") >= 6
    assert {"/P", "/L", "/LI", "/Table", "/TR", "/TH", "/TD", "/Link"} <= set(kinds)
    assert [element for element in exposed.elements() if element["/S"] == "/Figure" and not element.get("/Alt")] == []
    assert [entry.title for entry in exposed.file.outline if not isinstance(entry, list)] == ["exposed-server"]


@needs_weasyprint
def test_the_title_the_makers_and_the_time_are_those_of_the_scan(exposed: Paper) -> None:
    about = exposed.file.metadata
    assert about is not None
    assert about.title == "NO-GO: exposed-server"
    assert about.author == "Sample Partner"
    assert about.creator == "exposure-scan 0.1.0"
    assert about["/CreationDate"] == samples.exposed_server().finished.strftime("D:%Y%m%d%H%M%SZ")
    assert "/ModDate" not in about


@needs_weasyprint
def test_paper_is_never_dark(exposed: Paper) -> None:
    used = colours(exposed.drawn(), "rg|scn")
    assert {"#a8231b", "#111111"} <= used  # the verdict's ground, the text
    assert not used & set(DARK)


# --- what is drawn -------------------------------------------------------------------------------


@needs_weasyprint
def test_every_mark_has_its_drawing_in_its_colour(exposed: Paper) -> None:
    drawings = exposed.drawings()
    assert len(drawings) > 60  # marks, doors, the way from the Internet
    assert [drawing for drawing in drawings if not re.search(r" (m|l|c|re)\n", drawing)] == []
    strokes = {colour for drawing in drawings for colour in colours(drawing, "RG|SCN")}
    assert {"#a8231b", "#7a4b00", "#1c4f9c", "#444444"} <= strokes


@needs_weasyprint
def test_the_chart_of_the_last_scans_and_the_partner_s_look_are_drawn_and_named(
    complaints: Callable[[], list[str]],
) -> None:
    now = samples.exposed_server()
    now = now.model_copy(update={"partner": {**now.partner, "accent": "#6a1b9a", "logo": uri(png(200, 60))}})
    week = timedelta(days=7)
    before = now.model_copy(update={"id": "before", "started": now.started - week, "finished": now.finished - week})
    paper = Paper(pdf.render_pdf(material(now, history=past(now, [look_of(before)]))))
    names = [element["/Alt"] for element in paper.elements() if element["/S"] == "/Figure"]
    assert sum("last 2 scans" in name for name in names) == 1
    assert "Sample Partner" in names  # the logo
    assert len(names) == 2
    assert "#6a1b9a" in colours(paper.drawn(), "rg|scn")
    bars = [page for page in paper.file.pages if "The last scans" in page.extract_text()]
    assert len(bars) == 1
    assert complaints() == []


@needs_weasyprint
def test_hostile_text_makes_no_page_fail_and_no_title_strange(complaints: Callable[[], list[str]]) -> None:
    paper = Paper(pdf.render_pdf(material(samples.hostile())))
    assert complaints() == []
    about = paper.file.metadata
    assert about is not None
    for word in (
        about.title,
        about.author,
        *(entry.title for entry in paper.file.outline if not isinstance(entry, list)),
    ):
        assert word
        assert {unicodedata.category(char) for char in word} & {"Cc", "Cf", "Co", "Cn"} == set()
    links = [note.get_object() for page in paper.file.pages for note in page.get("/Annots", ())]
    assert links
    assert {str(link.get("/A", {}).get("/S", "/GoTo")) for link in links} == {"/GoTo"}  # nowhere but in this file
    assert b"/JavaScript" not in paper.content


# --- the same bytes ------------------------------------------------------------------------------

ELSEWHERE = """
import sys
sys.path.insert(0, "tests")
import test_report_pdf
sys.stdout.buffer.write(test_report_pdf.pdf.render_pdf(test_report_pdf.material(test_report_pdf.samples.exposed_server())))
"""


@needs_weasyprint
def test_the_same_scan_gives_the_same_bytes_in_any_process_time_zone_and_language(exposed: Paper) -> None:
    again = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"},
        capture_output=True,
        check=True,
    )
    assert again.stderr == b""
    assert again.stdout == exposed.content


@needs_weasyprint
def test_another_scan_gives_another_identifier(exposed: Paper) -> None:
    other = Paper(pdf.render_pdf(material(samples.silent_with_presence())))
    assert other.file.trailer["/ID"][0] != exposed.file.trailer["/ID"][0]
    assert other.has("GO At the time of the scan")


# --- nothing is asked ----------------------------------------------------------------------------


def own(folder: Path, page: str) -> Path:
    (folder / "report.html.j2").write_text(page)
    return folder


@needs_weasyprint
@pytest.mark.parametrize(
    "page",
    [
        '<img src="http://{address}/x.png" alt="x">',
        '<link rel="stylesheet" href="http://{address}/x.css">',
        '<style>@import "http://{address}/x.css";</style>',
        "<style>p{{background:url(HTTP://{address}/x.png)}}</style><p>x",
        '<style>@font-face{{font-family:x;src:url(http://{address}/x)}}</style><p style="font-family:x">x',
        '<link rel="attachment" href="http://{address}/x">',
        '<svg width="9" height="9"><image href="http://{address}/x.png" width="9" height="9"/></svg>',
        '<object data="http://{address}/x.png"></object>',
    ],
)
def test_an_address_in_a_template_is_refused_and_not_asked(tmp_path: Path, page: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        folder = own(tmp_path, page.format(address=address))
        with pytest.raises(Problem, match=f"The page asks for (?i:http)://{address}/x.*as a data: URI"):
            pdf.render_pdf(material(samples.exposed_server(), templates=folder))
        with pytest.raises(BlockingIOError):  # nobody knocked
            server.accept()


@needs_weasyprint
@pytest.mark.parametrize("name", ["logo.png", "{folder}/logo.png", "file://{folder}/logo.png", "../logo.png"])
def test_a_file_in_a_template_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "logo.png").write_bytes(png())
    monkeypatch.chdir(tmp_path)
    folder = own(tmp_path, f'<img alt="x" src="{name.format(folder=tmp_path)}">')
    with pytest.raises(Problem, match=r"The page asks for .*logo\.png, and a report opens no file"):
        pdf.render_pdf(material(samples.exposed_server(), templates=folder))


@needs_weasyprint
def test_a_picture_in_a_data_uri_is_drawn(tmp_path: Path, complaints: Callable[[], list[str]]) -> None:
    folder = own(tmp_path, f'<html lang="en"><title>x</title><img alt="a synthetic logo" src="{uri(png())}">')
    paper = Paper(pdf.render_pdf(material(samples.exposed_server(), templates=folder)))
    assert [figure["/Alt"] for figure in paper.elements() if figure["/S"] == "/Figure"] == ["a synthetic logo"]
    assert len(paper.file.pages[0].images) == 1
    assert complaints() == []


# --- WeasyPrint is missing -----------------------------------------------------------------------

INSTALL = "install it with: pip install 'exposure-scan[pdf]', and on Debian or Ubuntu the libraries"


def test_without_weasyprint_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(Problem) as caught:
        pdf.render_pdf(material(samples.exposed_server()))
    (told,) = caught.value.sentences
    assert told.startswith(f"A PDF needs WeasyPrint, which is not installed; {INSTALL}")
    assert "libpango-1.0-0" in told


def test_without_a_library_of_weasyprint_the_sentence_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "print('a long explanation')\nraise OSError(\"cannot load library 'libpango-1.0-0'\")\n"
    (tmp_path / "weasyprint.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "weasyprint", raising=False)
    with pytest.raises(Problem, match=r"which cannot be used here \(cannot load library 'libpango-1\.0-0'\); install"):
        pdf.render_pdf(material(samples.exposed_server()))
    assert capsys.readouterr().out == ""
