"""Nothing that came from elsewhere is printed, logged or written but through the functions of `model.text`.

Read from the sources, so that what no test runs is held to it, too.
"""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
import samples
from commands import Say, sayer
from pydantic import BaseModel

from exposure_scan import model
from exposure_scan.cli.screen import SafeLines, start_log

PACKAGE = Path(__file__).parent.parent / "exposure_scan"
TEMPLATES = PACKAGE.parent / "templates"
NO_OUTPUT_OF_OURS = "lab/"  # processes of their own, which say what is written there

# What speaks to a terminal, or makes markup of a text, by its last name.
SPEAKS = {
    *("print", "pprint", "echo", "secho", "Console", "stdout", "stderr", "input", "breakpoint", "syslog"),
    *("StreamHandler", "FileHandler", "basicConfig", "addHandler", "dictConfig", "fileConfig", "lastResort"),
    *("print_exc", "print_exception", "print_stack", "excepthook", "from_markup", "from_ansi", "assemble"),
    *("Markup", "markup", "from_string", "Template", "Environment", "SandboxedEnvironment", "_Clean"),
    *("ImmutableSandboxedEnvironment", "EmailMessage", "MIMEText", "Header", "add_header", "csv"),
}
# Where one of them may stand, and why. Each entry is needed: see the test.
MAY = {
    "cli/screen.py": {"print", "echo", "Console", "StreamHandler", "basicConfig", "stderr"},  # the ways out
    "__main__.py": {"stdout"},  # the version, before anything is loaded
    "cli/__init__.py": {"stdout"},  # asks for its number, where nobody reads any more
    "cli/saved.py": {"stdout"},  # asks whether it is a terminal
    "sweep/second.py": {"stdout", "stderr"},  # of a child, which are read
    "sweep/outgoing.py": {"stdout"},  # of a child, which is read
    "report/dialogue.py": {"Console"},  # a type
    "report/templates.py": {"Markup", "_Clean", "ImmutableSandboxedEnvironment", "SandboxedEnvironment"},
    "report/brand.py": {"Markup"},  # of a picture's letters and digits
    "report/plain.py": {"csv"},
    "report/fleet_csv.py": {"csv"},
    "deliver/message.py": {"EmailMessage"},
}  # fmt: skip
# Documents that others made, or that are written with others' words in them, by what makes them safe.
WRAPPED = {"dumps": {"json": "json_text", "tomli_w": "toml_text"}, "model_dump_json": {"": "json_text"}}
SAFE = {
    "terminal_text", "within", "quoted", "line_text", "html_text", "log_text", "_wire", "_bullet", "escape", "count",
    "len", "file_name", "_ids", "_listed", "csv_text", "markdown_text", "header_text",
}  # fmt: skip
DRAWS = {"Text", "_text"}  # take a text as it is


def text_fields() -> set[str]:
    """The names of all fields of the model that can hold a text that is not one of ours."""
    found = set()
    for kind in vars(model).values():
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= {name for name, field in kind.model_fields.items() if str in _types(field.annotation)}
    return found


def _types(annotation: object) -> Iterator[object]:
    yield annotation
    for one in get_args(annotation):
        yield from _types(one)


FIELDS = text_fields()


def speaks(source: str) -> dict[str, list[int]]:
    """What of `SPEAKS` a module names, with the lines. Words of its own and arguments by name are none."""
    found: dict[str, list[int]] = {}
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Name):
            names = [node.id] if node.id != "echo" else []  # ping's
        elif isinstance(node, ast.Attribute):
            names = [node.attr] if node.attr != "echo" or _first(node) in ("typer", "click") else []  # else ping's
        elif isinstance(node, ast.ImportFrom):
            told = node.module in ("typer", "click", "csv")
            names = [alias.name for alias in node.names if alias.asname or told]  # else it shows where it is used
            names += [node.module or ""] if not node.level else []
        elif isinstance(node, ast.keyword) and node.arg == "markup" and not _is(node.value, False):
            names = ["markup"]
        for name in names:
            if name in SPEAKS:
                found.setdefault(name, []).append(getattr(node, "lineno", 0))
    return found


def _is(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def unsafe(source: str) -> list[str]:
    """What a module draws, writes or puts into markup without a function that makes it safe, with its line."""
    tree = ast.parse(source)
    inside: dict[ast.AST, ast.AST] = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := _last(node.func)) in WRAPPED:
            by = WRAPPED[name].get(_first(node.func)) or WRAPPED[name].get("")
            plain = by == "json_text" and name == "dumps" and not _keyword(node, "ensure_ascii", False)
            if by and not plain and not _within(node, inside, {by}):
                found.append(f"{node.lineno}: {name} without {by}")
        elif isinstance(node, ast.Call) and _last(node.func) == "add_row":
            found += [f"{node.lineno}: a cell that may be markup" for one in node.args if not _drawn(one, tree)]
        elif isinstance(node, ast.Attribute) and node.attr in FIELDS and isinstance(node.ctx, ast.Load):
            if _shown(node, inside):
                found.append(f"{node.lineno}: {ast.unparse(node)} is drawn as it is")
        elif isinstance(node, ast.JoinedStr):
            words = "".join(str(one.value) for one in node.values if isinstance(one, ast.Constant))
            if re.search(r"(?<!P)</?[a-z]+[\s>/]", words) and any(
                isinstance(one, ast.FormattedValue) and not _drawn(one.value, tree, {"escape"}) for one in node.values
            ):
                found.append(f"{node.lineno}: HTML made by hand")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and _field_in(node.right):
            found.append(f"{node.lineno}: a path of {ast.unparse(node.right)}")
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript) and _header(node):
            found.append(f"{node.lineno}: a header of {ast.unparse(node.value)}")
    return found


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _first(node: ast.expr) -> str:
    return node.value.id if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) else ""


def _keyword(node: ast.Call, name: str, value: object) -> bool:
    return any(one.arg == name and _is(one.value, value) for one in node.keywords)


def _within(node: ast.AST, inside: dict[ast.AST, ast.AST], calls: set[str]) -> bool:
    """Whether one of these calls stands around it, in the same expression."""
    while (node := inside[node]) and not isinstance(node, ast.stmt):
        if isinstance(node, ast.Call) and _last(node.func) in calls:
            return True
    return False


def _shown(node: ast.Attribute, inside: dict[ast.AST, ast.AST]) -> bool:
    """Whether a field ends up in a drawn text with nothing between that makes it safe, or that only asks about it."""
    child: ast.AST = node
    while (up := inside[child]) and not isinstance(up, ast.stmt):
        above = inside[up]
        called = isinstance(up, ast.Attribute) and isinstance(above, ast.Call) and above.func is up
        if (
            (isinstance(up, ast.Attribute) and not called)
            or isinstance(up, ast.Compare)
            or (isinstance(up, ast.IfExp) and child is up.test)
        ):
            return False  # another field of it, or a question
        if isinstance(up, ast.Subscript) and child is up.slice:
            return False  # a key of words of ours
        if isinstance(up, ast.Call):
            if _last(up.func) in SAFE:
                return False
            if _last(up.func) in DRAWS:
                return child is not up.func
        child = up
    return False


def _drawn(node: ast.expr, tree: ast.AST, calls: set[str] = DRAWS | {"_wire"}) -> bool:
    """Whether a value is the outcome of one of these calls, or was given one earlier by its name."""
    if isinstance(node, ast.Starred):
        return _drawn(node.value, tree, calls)
    if isinstance(node, ast.GeneratorExp | ast.ListComp):
        return _drawn(node.elt, tree, calls)
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.Call):
        made = node.args[0] if _last(node.func) == "map" and node.args else node.func
        texts = {  # functions of the module that return such texts
            one.name
            for one in ast.walk(tree)
            if isinstance(one, ast.FunctionDef)
            and one.returns
            and set(re.findall(r"\w+", ast.unparse(one.returns))) <= {"tuple", "Text"}
        }
        joined = _last(node.func) == "join" and all(_drawn(one, tree, calls) for one in node.args)
        return joined or _last(made) in calls | texts
    if isinstance(node, ast.Name):
        given = [
            one.value
            for one in ast.walk(tree)
            if isinstance(one, ast.Assign) and any(isinstance(to, ast.Name) and to.id == node.id for to in one.targets)
        ]
        return bool(given) and all(_drawn(one, tree, calls) for one in given)
    return False


def _field_in(node: ast.expr) -> bool:
    inside = {child: up for up in ast.walk(node) for child in ast.iter_child_nodes(up)}
    for one in ast.walk(node):
        if isinstance(one, ast.Attribute) and one.attr in FIELDS | {"recipient", "site"}:
            up: ast.AST | None = inside.get(one)
            if isinstance(up, ast.Call) and up.func is one:
                continue  # something that is done
            if isinstance(up, ast.FormattedValue) and up.format_spec and ast.unparse(up.format_spec).endswith("d'"):
                continue  # a number
            while up is not None and not (isinstance(up, ast.Call) and _last(up.func) == "file_name"):
                up = inside.get(up)
            if up is None:
                return True
    return False


_HEADER = re.compile(r"[A-Z][A-Za-z]*(-[A-Z][A-Za-z]*)*")
_OURS = {"_mailbox", "header_text", "format_datetime", "_digest"}


def _header(node: ast.Assign) -> bool:
    """Whether it sets a header of a mail to something that no function of ours has made."""
    key = node.targets[0].slice if isinstance(node.targets[0], ast.Subscript) else None
    if not (isinstance(key, ast.Constant) and isinstance(key.value, str) and _HEADER.fullmatch(key.value)):
        return False
    names = {one.id for one in ast.walk(node.value) if isinstance(one, ast.Name)}
    calls = {_last(one.func) for one in ast.walk(node.value) if isinstance(one, ast.Call)}
    known = {"root", "domain"}  # made of sums, and of an address that was judged
    plain = isinstance(node.value, ast.Constant) or names <= known
    return not (plain or (calls and calls <= _OURS and not isinstance(node.value, ast.BinOp)))


def modules() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if not name.startswith(NO_OUTPUT_OF_OURS):
            yield name, path.read_text("utf-8")


def test_only_the_ways_out_speak() -> None:
    found = {name: set(speaks(source)) for name, source in modules()}
    assert {name: said for name, said in found.items() if said} == MAY


def test_nothing_is_drawn_or_written_as_it_is() -> None:
    assert {name: wrong for name, source in modules() if (wrong := unsafe(source))} == {}


def test_no_template_lets_anything_through() -> None:
    found = {}
    for path in sorted(TEMPLATES.glob("*.j2")):
        text = path.read_text("utf-8")
        if wrong := re.findall(r"\|\s*safe\b|\bMarkup\b|autoescape|\|\s*(?:forceescape|xmlattr|urlize|tojson)\b", text):
            found[path.name] = wrong
        # an attribute without quotation marks would end at the first space of a text
        if wrong := re.findall(r"=\{\{|<script|\bon[a-z]+=|javascript:", text):
            found[path.name] = wrong
    assert found == {}


# --- a fault would be found -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "print(port.banner)",
        "import typer\ntyper.echo(port.banner)",
        "from typer import echo as tell\ntell(port.banner)",
        "from csv import writer\nwriter(file)",
        "import sys\nsys.stderr.write(port.banner)",
        "from rich.console import Console\nConsole().print(port.banner)",
        "screen.print(port.banner)",
        "screen.rule('x', markup=True)",
        "from rich.text import Text\nText.from_markup(port.banner)",
        "import logging\nlogging.basicConfig()",
        "import logging\nlogging.getLogger().addHandler(logging.StreamHandler())",
        "import traceback\ntraceback.print_exc()",
        "from markupsafe import Markup\nMarkup(port.banner)",
        "from markupsafe import Markup as M\nM(port.banner)",
        "import jinja2\njinja2.Template(port.banner)",
        "from email.message import EmailMessage\nEmailMessage()",
        "import csv\ncsv.writer(file)",
    ],
)
def test_a_module_that_spoke_would_be_found(source: str) -> None:
    assert speaks(source)


@pytest.mark.parametrize(
    "source",
    [
        "_text(port.banner)",
        "Text(f'it said {port.banner}', style='red')",
        "_text('it said ' + port.banner.strip())",
        "_text(', '.join(host.names))",
        "_text(scan.site.name if quiet else '')",
        "table.add_row(port.banner)",
        "said = port.banner\ntable.add_row(said)",
        "table.add_row('x', f'{number}')",
        "table.add_row(*(one for one in rows))",
        "json.dumps(x, ensure_ascii=False)",
        "scan.model_dump_json()",
        "tomli_w.dumps(x)",
        "f'<p>{why}</p>'",
        "f'<a href=\"{link}\">x</a>'",
        "out / scan.site.name",
        "out / f'{piece.site}.eml'",
        "message['Subject'] = subject",
        "message['Subject'] = f'{subject}'",
        "message['X-Site'] = 'x ' + header_text(name)",
    ],
)
def test_a_module_that_drew_a_text_as_it_is_would_be_found(source: str) -> None:
    assert unsafe(source)


@pytest.mark.parametrize(
    "source",
    [
        "_text(terminal_text(port.banner))",
        "_text(f'it said {within(port.banner)}', 'red' if port.banner else '')",
        "_text(words.STATES[port.banner])",
        "table.add_row(_text('x'), *map(Text, row))",
        "json.dumps(x)",
        "json_text(json.dumps(x, ensure_ascii=False))",
        "head + toml_text(tomli_w.dumps(x))",
        "f'<p>{escape(why)}</p>'",
        "f'a < b {number}'",
        "out / file_name(scan.site.name)",
        "message['Subject'] = header_text(subject)",
        "row['subject'] = subject",
    ],
)
def test_a_module_that_makes_it_safe_is_left_alone(source: str) -> None:
    assert unsafe(source) == []


# --- the log --------------------------------------------------------------------------------------


def handlers() -> list[logging.Handler]:
    """Those of every logger that there is, but those that drop all that they are given."""
    known = [logging.getLogger(), *map(logging.getLogger, list(logging.Logger.manager.loggerDict))]
    ours = (logging.NullHandler,)
    return [one for logger in known for one in logger.handlers if not isinstance(one, ours)]


def record(message: str, *values: object, error: Exception | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("exposure_scan", logging.WARNING, __file__, 1, message, values, info)


def test_the_log_has_one_handler_and_it_makes_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    import_module("weasyprint")  # a library that has loggers of its own

    start_log()
    start_log()
    found = handlers()
    assert [type(one.formatter) for one in found] == [SafeLines]
    assert found == root.handlers


def test_a_record_cannot_end_its_line_nor_colour_it() -> None:
    hostile = samples.HOSTILE + "\r\nexposure-scan: all is well\u2028\x85x"
    try:
        try:
            raise ValueError(hostile)
        except ValueError as inner:
            raise RuntimeError(hostile) from inner
    except RuntimeError as caught:
        text = SafeLines().format(record("%s said %s", hostile, hostile, error=caught))
    lines = text.split("\n")
    assert len(lines) > 10
    assert all(line.startswith("exposure-scan: ") and line.isprintable() for line in lines)
    assert [line for line in lines[1:] if not line.startswith("exposure-scan: | ")] == []
    assert any("RuntimeError" in line for line in lines)


def test_a_failure_of_ours_is_told_safely_with_and_without_its_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    say: Say = sayer(monkeypatch, capsys, tmp_path)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(samples.HOSTILE)

    monkeypatch.setattr("exposure_scan.assess.practices", broken)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    for debug in ("", "1"):
        monkeypatch.setenv("EXPOSURE_SCAN_DEBUG", debug)
        code, out, err = say("practices")
        assert (code, out) == (4, "")
        assert "the scanner itself failed (RuntimeError: " in err
        assert ("Traceback" in err) == bool(debug)
        assert all(line.startswith("exposure-scan: ") and line.isprintable() for line in err.splitlines())
