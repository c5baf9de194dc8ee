"""The partner's look: what the sites file takes, and what of a saved scan is still believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import samples
from pictures import jpeg, png, segment, uri, webp
from sites_files import CONSENT, HEAD, mistakes, read

from exposure_scan.model import Scan
from exposure_scan.model.colour import contrast, darkened
from exposure_scan.model.picture import read_logo
from exposure_scan.report.brand import Brand, brand

SITE = HEAD + CONSENT
SVG = b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- synthetic -->\n<SVG xmlns="http://www.w3.org/2000/svg"/>'


def partner(folder: Path, *lines: str) -> str:
    """A sites file's text with these lines under [partner]."""
    folder.joinpath("logo.png").write_bytes(png())
    return "[partner]\n" + "\n".join(lines) + "\n" + SITE


def short(value: object) -> str:
    return repr(value)[:24]


# --- colours -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("colour", "ratio"),
    [("#ffffff", 1.0), ("#000000", 21.0), ("#777777", 4.478), ("#767676", 4.542), ("#ff0000", 3.998)],
)
def test_contrast_with_white_is_that_of_wcag(colour: str, ratio: float) -> None:
    assert contrast(colour) == pytest.approx(ratio, abs=0.001)
    assert contrast("#ffffff", colour) == contrast(colour)


@pytest.mark.parametrize("colour", ["#ffffff", "#ffcc00", "#ff0000", "#00ff00", "#777777"])
def test_the_colour_that_is_offered_instead_is_taken_itself(colour: str) -> None:
    assert 4.5 <= contrast(darkened(colour)) < 5


def test_a_colour_that_can_be_read_is_kept_in_lower_case(tmp_path: Path) -> None:
    assert read(tmp_path, partner(tmp_path, 'accent = "#1C4F9C"')).partner == {"accent": "#1c4f9c"}


@pytest.mark.parametrize("written", ["#1c4f9", "1c4f9c", "#1c4f9c ", "navy", "#1c4f9g", "#1c4f9c;}", "\uff03123456"])
def test_what_is_no_colour_is_a_mistake(tmp_path: Path, written: str) -> None:
    (told,) = mistakes(tmp_path, partner(tmp_path, f'accent = "{written}"'))
    assert told.startswith('partner.accent: a colour is expected, as "#1c4f9c", not ')


def test_a_colour_that_is_too_pale_is_told_with_its_ratio_and_a_darker_one(tmp_path: Path) -> None:
    (told,) = mistakes(tmp_path, partner(tmp_path, 'accent = "#FF8000"'))
    assert told == (
        'partner.accent: "#FF8000" has a contrast of 2.51:1 with white, and text needs 4.5:1; '
        'choose a darker one, as "#ba5d00".'
    )


def test_a_ratio_just_too_low_is_not_rounded_up_to_what_is_needed(tmp_path: Path) -> None:
    assert 4.495 < contrast("#0076e0") < 4.5
    (told,) = mistakes(tmp_path, partner(tmp_path, 'accent = "#0076e0"'))
    assert " 4.49:1 with white" in told


# --- pictures ------------------------------------------------------------------------------------

PICTURES = [
    (png(), "image/png"),
    (jpeg(), "image/jpeg"),
    (jpeg(frame=0xC2), "image/jpeg"),
    (webp("VP8 "), "image/webp"),
    (webp("VP8L"), "image/webp"),
    (webp("VP8X"), "image/webp"),
]


@pytest.mark.parametrize(("data", "mime"), PICTURES, ids=short)
def test_the_size_is_read_of_every_kind_of_picture(data: bytes, mime: str) -> None:
    found = read_logo(data)
    assert (found.mime, found.width, found.height) == (mime, 8, 4)


@pytest.mark.parametrize(("data", "mime"), PICTURES, ids=short)
def test_a_logo_beside_the_sites_file_travels_as_a_data_uri(tmp_path: Path, data: bytes, mime: str) -> None:
    (tmp_path / "mark").write_bytes(data)
    file = read(tmp_path, partner(tmp_path, 'logo = "mark"', 'name = "Synthetic partner"'))
    assert file.partner == {"name": "Synthetic partner", "logo": uri(data, mime)}
    assert file.orders[0].partner == file.partner


def test_every_beginning_of_a_picture_is_refused_without_a_crash() -> None:
    for whole, _ in PICTURES:
        for end in range(len(whole) - 1):
            try:
                found = read_logo(whole[:end])
            except ValueError:
                continue
            assert (found.width, found.height) == (8, 4)


NO_PICTURE = "is no PNG, JPEG or WebP picture; save it as one of them"
BROAD = "pixels, and at most 1200x400 are taken; save a smaller one"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", NO_PICTURE),
        (b"GIF89a" + bytes(64), NO_PICTURE),
        (b"\xff\xd8\xff\xe0 nothing of a picture", NO_PICTURE),
        (jpeg(frames=2), NO_PICTURE),  # readers disagree on which one counts
        (b"\xff\xd8" + segment(0xDA, bytes(6)) + jpeg()[2:], NO_PICTURE),
        (webp()[:-1], NO_PICTURE),
        (b"<!doctype html><p>no picture", NO_PICTURE),
        (SVG, "is an SVG picture, which can hold scripts; save it as PNG, JPEG or WebP"),
        (png(0, 4), "is a picture of no size; save it anew"),
        (jpeg(8, 0), "is a picture of no size; save it anew"),
        (png(1201, 4), f"has 1201x4 {BROAD}"),
        (png(8, 401), f"has 8x401 {BROAD}"),
        (jpeg(1201, 400), f"has 1201x400 {BROAD}"),
        (webp("VP8 ", 1200, 401), f"has 1200x401 {BROAD}"),
        (webp("VP8L", 1201, 400), f"has 1201x400 {BROAD}"),
        (webp("VP8X", 1 << 24, 1 << 24), f"has 16777216x16777216 {BROAD}"),
        (png(more=bytes(32 * 1024)), "is larger than 32 KB; save a smaller one"),
    ],
    ids=short,
)
def test_what_is_no_logo_is_a_mistake_that_says_why(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "mark.png").write_bytes(data)
    assert mistakes(tmp_path, partner(tmp_path, 'logo = "mark.png"')) == [f'partner.logo: "mark.png" {why}.']


def test_a_logo_of_the_largest_size_is_taken(tmp_path: Path) -> None:
    small = png(1200, 400)
    data = small + bytes(32 * 1024 - len(small))
    (tmp_path / "mark.png").write_bytes(data)
    assert read(tmp_path, partner(tmp_path, 'logo = "mark.png"')).partner == {"logo": uri(data)}


def test_a_logo_that_is_not_there_or_no_file_is_a_mistake(tmp_path: Path) -> None:
    beside = "beside the sites file."
    (told,) = mistakes(tmp_path, partner(tmp_path, 'logo = "missing.png"'))
    assert told == f'partner.logo: "missing.png" cannot be read (No such file or directory); name a picture {beside}'
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    for name in ("folder", "pipe"):
        (told,) = mistakes(tmp_path, partner(tmp_path, f'logo = "{name}"'))
        assert told == f'partner.logo: "{name}" is no file; name a PNG, JPEG or WebP picture {beside}'
    (told,) = mistakes(tmp_path, partner(tmp_path, f'logo = "{"x" * 5000}"'))
    assert "cannot be read (File name too long)" in told


def test_mistakes_of_the_look_are_told_together_with_all_others(tmp_path: Path) -> None:
    text = partner(tmp_path, 'accent = "#ffffff"', 'logo = "missing.png"', 'logoo = "x"') + "burst = 0\n"
    assert [told.split(":")[0] for told in mistakes(tmp_path, text)] == [
        "partner.accent",
        "partner.logo",
        "partner.logoo",
        "site[1].authorization.burst",
    ]


# --- a saved scan --------------------------------------------------------------------------------


def looks(**values: str) -> Brand:
    scan = samples.exposed_server()
    return brand(scan.model_copy(update={"partner": {**scan.partner, **values}}))


def test_the_look_of_a_saved_scan_is_that_of_the_sites_file(tmp_path: Path) -> None:
    file = read(tmp_path, partner(tmp_path, 'accent = "#1C4F9C"', 'logo = "logo.png"'))
    saved = samples.exposed_server().model_copy(update={"partner": file.partner}).to_json()
    assert brand(Scan.model_validate_json(saved)) == Brand("#1c4f9c", uri(png()))


def test_a_scan_without_a_look_has_the_product_s_own() -> None:
    assert looks() == Brand(None, None)


@pytest.mark.parametrize(
    "accent",
    ["#ffcc00", "red", "#000000;}body{display:none}", "#00000", "#000000\n", "url(//x.example)", samples.HOSTILE],
)
def test_a_colour_of_a_saved_scan_that_is_none_or_too_pale_is_dropped(accent: str) -> None:
    assert looks(accent=accent, logo=uri(png())) == Brand(None, uri(png()))


@pytest.mark.parametrize(
    "logo",
    [
        "https://198.51.100.1/logo.png",
        "logo.png",
        uri(SVG, "image/svg+xml"),
        uri(SVG),
        uri(png(), "image/jpeg"),
        uri(png(), "image/PNG"),
        uri(png(), "text/html"),
        uri(png(1201, 4)),
        uri(png(more=bytes(32 * 1024))),
        uri(png()) + '"onload="x',
        uri(png()) + "\n",
        uri(png()).replace("base64,", "base64, "),
        uri(png()).rstrip("="),
        uri(png()) + "=",
        uri(png()).replace("data:", "DATA:"),
        uri(png()).replace(";base64", ""),
        "data:image/png;base64,",
        "data:image/png;base64," + "A" * 10_000_000,
        samples.HOSTILE,
    ],
    ids=short,
)
def test_a_logo_of_a_saved_scan_that_is_none_is_dropped(logo: str) -> None:
    assert looks(accent="#1c4f9c", logo=logo) == Brand("#1c4f9c", None)


def test_a_template_shows_a_logo_uncut(tmp_path: Path) -> None:
    from exposure_scan.report.templates import render_template

    data = png(64, 64, more=bytes(2000))
    (tmp_path / "own.html.j2").write_text('<img src="{{ brand.logo }}">')
    assert render_template("own.html.j2", tmp_path, brand=looks(logo=uri(data))) == f'<img src="{uri(data)}">'
