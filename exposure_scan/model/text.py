"""Untrusted text made safe: one function for each place where it is shown.

What a server says, what a name service says and what a saved scan contains may have been written by
an attacker. It may hold markup, terminal commands, marks that turn the reading direction, characters
without width, or a megabyte. Nothing of that reaches a reader.
"""

from __future__ import annotations

import re
import unicodedata

TERMINAL_LIMIT = 100
HTML_LIMIT = 600
CELL_LIMIT = 1000
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


def _clean(text: str, limit: int) -> str:
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
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > _MOST_MARKS or (char == " " and shown and shown[-1] == " "):
            continue
        shown.append(char)
    line = "".join(shown).strip()
    if len(line) > limit or len(text) > len(looked_at):
        return line[: max(limit - len(CUT), 0)].rstrip() + CUT
    return line
