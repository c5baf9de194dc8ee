"""Untrusted text made safe: one function for each place where it is shown.

What a server says, what a name service says and what a saved scan contains may have been written by
an attacker. It may hold markup, terminal commands, marks that turn the reading direction, characters
without width, or a megabyte. Nothing of that reaches a reader.

| where it goes | what makes it safe |
|---|---|
| a terminal | `terminal_text` |
| a sentence of ours | `within`, or `quoted` where the reader is to see what is wrong with it |
| a whole line of ours that quotes things, an error's too | `line_text`; a `Problem` does so by itself |
| the log | `log_text` |
| HTML, and the text part of a mail | `html_text`, by the template engine, which escapes it besides |
| CSV, Markdown | `csv_text`, `markdown_text` |
| a header of a mail | `header_text` |
| a file's or a folder's name | `file_name` |
| JSON, TOML | `json_text`, `toml_text`: whole documents, and nothing is lost |
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

TERMINAL_LIMIT = 100
HTML_LIMIT = 600
CELL_LIMIT = 1000
LOG_LIMIT = 2000
LINE_LIMIT = 4000  # the longest of ours list ports or fields
HEADER_LIMIT = 200
NAME_LIMIT = 120  # bytes; file systems take 255, and others put words before and behind it
CUT = "… (cut)"

# Terminal commands whole, so that no "[31m" stays behind: ECMA-48 section 5.4 (CSI), then the string
# commands (OSC, DCS, SOS, PM, APC) up to their end or the end of the text, then the short ones.
_COMMANDS = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)"
    r"|\x1b[ -/]*[0-~]?"
)
# Letters and symbols by category, but drawn as nothing.
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5")
# Control, format (bidi marks, zero width), surrogate, private use, unassigned.
_UNWANTED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_MARKING = frozenset({"Mn", "Me"})
_MOST_MARKS = 2  # accents on one letter; more is a tower of marks that covers its neighbours


def terminal_text(text: str, limit: int = TERMINAL_LIMIT) -> str:
    """Untrusted text for a terminal: one line without control, ANSI, bidi or invisible characters.

    A longer text is cut to `limit` characters, the mark of the cut included.
    """
    return _clean(text, limit)


def html_text(text: str, limit: int = HTML_LIMIT) -> str:
    """Untrusted text for HTML, before the escaping that the template engine does.

    One line without control, ANSI, bidi or invisible characters, cut to `limit` characters, the mark
    of the cut included.
    """
    return _clean(text, limit)


def within(text: str, limit: int = 80) -> str:
    """Untrusted text as a piece of a sentence of ours.

    Cleaned on its own: a terminal command that never ends would swallow the rest of the sentence.
    """
    return _clean(text, limit)


def quoted(text: str, limit: int = 80) -> str:
    """Untrusted text in quotation marks for a sentence of ours, with what does not print as its number.

    It is for texts that somebody has to mend, and so must see as they are; of a longer one, the beginning.
    """
    told = _each_numbered(text if len(text) <= limit else text[: limit - 3])
    size = len(told)
    while sum(map(len, told[:size])) > limit:
        size -= 1
    return f'"{"".join(told[:size])}{"..." if size < len(text) else ""}"'


def line_text(text: str, limit: int = LINE_LIMIT) -> str:
    """A line of ours, whatever it quotes: what does not print stands as its number, and the rest as it is.

    Spaces stay, too: such lines name files. A longer one is cut.
    """
    return _numbered(" ".join((text if len(text) <= limit else text[: limit - 3] + "...").splitlines()))


def log_text(text: str, limit: int = LOG_LIMIT) -> str:
    """Untrusted text as one line of a log, which it can neither end nor colour."""
    return _clean(text, limit)


# A spreadsheet reads a cell that begins so as a formula; Excel takes the full-width forms for the same.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_text(text: str, limit: int = CELL_LIMIT) -> str:
    """Untrusted text for a cell of a CSV file, before the quoting that the csv module does.

    One line without control, ANSI, bidi or invisible characters, cut to `limit` characters. What a
    spreadsheet would take for a formula gets an apostrophe in front and so may be one longer.
    """
    cell = _clean(text, limit)
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


# Entities where a backslash is not enough: parsers differ over a backtick between a backslash and another
# backtick, and page builders read "{{" and "{%" before Markdown is read.
_MARKS = str.maketrans(
    {mark: f"\\{mark}" for mark in "\\*_[]|~"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "&grave;", "{": "&lcub;"}
)
# GitHub makes links, mentions, references and formulas out of finished text, where no escape is left to
# see. A piece of code in the middle ends the text there.
_LINKED = re.compile(r"(?:(?<=www)\.|://|[@#$])+", re.IGNORECASE)
# What makes a list, a rule, or the line under a heading or a table's head.
_BEGINS = re.compile(r"^(\d{1,9}(?=[.)](?: |$))|(?=[-+=:]))")


def markdown_text(text: str, limit: int = HTML_LIMIT) -> str:
    """Untrusted text for a paragraph, a list or a table of a Markdown file (CommonMark, and GitHub's).

    One line without control, ANSI, bidi or invisible characters, cut to `limit` characters before the
    escaping. Nothing in it is markup, HTML or a link; it may begin a line.
    """
    line = _LINKED.sub(lambda found: f"`{found[0]}`", _clean(text, limit).translate(_MARKS))
    return _BEGINS.sub(r"\1\\", line)


# Begins an encoded word (RFC 2047), which a mail program would decode once more.
_ENCODED = re.compile(r"=(?=\?)")


def header_text(text: str, limit: int = HEADER_LIMIT) -> str:
    """Untrusted text for the words of a mail's header (RFC 5322, section 2.2), before it is encoded.

    One line without control, ANSI, bidi or invisible characters and without what reads as an encoded word,
    cut to `limit` characters.
    """
    return _clean(_ENCODED.sub("= ", _clean(text, limit)), limit)


# Names that Windows keeps for devices, whatever follows behind a dot (Microsoft, "Naming Files, Paths, and
# Namespaces").
_DEVICE = re.compile(r"con|prn|aux|nul|(?:com|lpt)[0-9\xb9\xb2\xb3]")
_SUM = 8  # hexadecimal digits


def file_name(text: str, limit: int = NAME_LIMIT) -> str:
    """Untrusted text as the name of a file or a folder, without an extension: lower case, hyphens.

    Nothing but letters, digits and hyphens, never empty, never a device of Windows, in Unicode's form NFC, and at most
    `limit` bytes of UTF-8: of a longer name the beginning, with a part of its SHA-256. What differs only in upper and
    lower case, in punctuation or in the form of its accents has the same name.
    """
    plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    name = re.sub(r"[\W_]+", "-", plain).strip("-") or "x"
    if len(name.encode("utf-8", "replace")) > limit:
        digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:_SUM]
        begin = name.encode("utf-8", "replace")[: limit - _SUM - 1].decode("utf-8", "ignore").rstrip("-")
        name = f"{begin}-{digest}"
    return f"x-{name}" if _DEVICE.fullmatch(name) else name


# What may stand in a string of JSON or TOML as it is, and moves a terminal's cursor or a reader's eye: C1
# controls, format characters, separators of lines.
_BESIDE_ASCII = re.compile(r"[^\n -~]")
_MOVING = frozenset({"Cc", "Cf", "Zl", "Zp"})


def json_text(document: str) -> str:
    """A JSON document (RFC 8259) with what a terminal would obey, or a reader not see, as escapes.

    Such characters stand in its strings alone. A parser reads the same from it.
    """
    return _BESIDE_ASCII.sub(lambda found: _escaped(found[0], wide=False), document)


def toml_text(document: str) -> str:
    """A TOML document (1.0) whose strings are all basic ones, with the same as escapes.

    A parser reads the same from it.
    """
    return _BESIDE_ASCII.sub(lambda found: _escaped(found[0], wide=True), document)


def _escaped(char: str, *, wide: bool) -> str:
    if unicodedata.category(char) not in _MOVING:
        return char
    if wide and ord(char) > 0xFFFF:
        return f"\\U{ord(char):08x}"
    data = char.encode("utf-16-be")
    return "".join(f"\\u{data[at : at + 2].hex()}" for at in range(0, len(data), 2))


def _numbered(text: str) -> str:
    return "".join(_each_numbered(text))


def _each_numbered(text: str) -> list[str]:
    shown = []
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char) in _MARKING else 0
        plain = char.isprintable() and char not in _INVISIBLE and marks <= _MOST_MARKS
        shown.append(char if plain else f"\\u{ord(char):04x}")
    return shown


def _clean(text: str, limit: int) -> str:
    if len(text) <= limit and text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()  # nearly all of it
    # Bounded work: what lies far behind the limit is never looked at.
    looked_at = text[: limit * 8]
    shown: list[str] = []
    marks = 0
    for char in _COMMANDS.sub("", looked_at):
        category = unicodedata.category(char)
        if char in "\t\n\r" or category in ("Zs", "Zl", "Zp"):
            char, category = " ", "Zs"
        elif category in _UNWANTED or char in _INVISIBLE:
            continue
        marks = marks + 1 if category in _MARKING else 0
        if marks > _MOST_MARKS or (char == " " and shown and shown[-1] == " "):
            continue
        shown.append(char)
    line = "".join(shown).strip()
    if len(line) > limit or len(text) > len(looked_at):
        return line[: max(limit - len(CUT), 0)].rstrip() + CUT
    return line
