"""The partner's look in the sites file: a colour that can be read, and a picture that is one."""

from __future__ import annotations

import math
from pathlib import Path

from exposure_scan.model.colour import READABLE, contrast, darkened, is_colour
from exposure_scan.model.picture import MOST_BYTES, logo_uri
from exposure_scan.model.text import quoted


def accent(text: str) -> str:
    """The colour in lower case.

    Raises:
        ValueError: it is none, or white text cannot be read on it.
    """
    if not is_colour(text):
        raise ValueError(f'a colour is expected, as "#1c4f9c", not {quoted(text)}')
    ratio = contrast(text)
    if ratio < READABLE:
        shown = math.floor(ratio * 100) / 100  # 4.496 is not 4.50
        raise ValueError(
            f"{quoted(text)} has a contrast of {shown:.2f}:1 with white, and text needs {READABLE}:1; "
            f'choose a darker one, as "{darkened(text)}"'
        )
    return text.lower()


def logo(name: str, folder: Path) -> str:
    """The picture of that name, relative to `folder`, as a ``data:`` URI.

    Raises:
        ValueError: it cannot be read, is no picture or is too large.
    """
    path = folder / name
    try:
        if path.exists() and not path.is_file():  # a pipe or a device would be read without end
            raise ValueError(f"{quoted(name)} is no file; name a PNG, JPEG or WebP picture beside the sites file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ValueError(f"{quoted(name)} cannot be read ({why}); name a picture beside the sites file") from None
    try:
        return logo_uri(data)
    except ValueError as error:
        raise ValueError(f"{quoted(name)} {error}") from None
