"""Jinja2: where the templates are, how everything that they show is made safe, and whose mistake a mistake is.

Every value that a template shows passes `html_text` and, in HTML, the escaping, whether the template remembers to
ask for it or not; the filter `wire` sets a tighter limit. Templates run in a sandbox: a folder of somebody's
own can name what to show, and call nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from exposure_scan.model import Problem
from exposure_scan.model.text import html_text, terminal_text

from . import words

if TYPE_CHECKING:
    from types import TracebackType

    from jinja2.sandbox import SandboxedEnvironment

_MOST = 200  # characters of an error that a template made


class _Clean(str):
    """Text that was cleaned and cut already; it is still escaped."""

    __slots__ = ()


def templates_folder() -> Path:
    """Where the templates are: in the installed package, else in the checkout above it.

    Raises:
        FileNotFoundError: in neither place; the installation is damaged.
    """
    package = Path(__file__).parent.parent
    packaged, checkout = package / "templates", package.parent / "templates"
    for folder in (packaged, checkout):
        if (folder / "report.html.j2").is_file():
            return folder
    raise FileNotFoundError(
        f"The report templates are neither in {packaged} nor in {checkout}; install exposure-scan again."
    )


def render_template(name: str, own: Path | None, **values: object) -> str:
    """The text of a template; a file of the folder `own` is taken before the product's of the same name.

    Raises:
        Problem: `own` is no folder, or a template that uses it is wrong; with template and line.
    """
    with _blaming(own, name):
        return _environment(own).get_template(name).render(values)


def check_templates(own: Path) -> None:
    """Read every template of the folder `own`, so that its grammar is known to be right before a scan begins.

    Raises:
        Problem: `own` is no folder, or a template's grammar is wrong; with template and line.
    """
    with _blaming(own, str(own)):
        for path in sorted(own.glob("*.j2")):
            _environment(own).get_template(path.name)


@contextmanager
def _blaming(own: Path | None, name: str) -> Iterator[None]:
    """What goes wrong in a folder of somebody's own is wrong use, told with template and line."""
    from jinja2 import TemplateError

    if own is not None and not own.is_dir():
        raise Problem(f"{own} is no folder; give one that holds templates, each named as the one that it replaces.")
    try:
        yield
    except Exception as error:
        if own is None:  # a mistake of ours, not of the caller's
            raise
        where = _place(error, own)
        if where is None and not isinstance(error, TemplateError):
            raise
        said = terminal_text(str(error) or type(error).__name__, _MOST)
        raise Problem(f"{where or name}: {said}. Mend it, or leave it out to use the product's own.") from None


@cache
def _environment(own: Path | None) -> SandboxedEnvironment:
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from markupsafe import Markup

    def safe(value: object) -> object:
        return value if isinstance(value, Markup | _Clean) else html_text(str(value))

    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader([*([own] if own else []), templates_folder()]),
        autoescape=lambda name: name is None or not name.endswith(".txt.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=safe,
    )
    environment.filters["wire"] = lambda value, limit=200: _Clean(html_text(str(value), limit))
    environment.filters["plural"] = words.count
    return environment


def _place(error: Exception, own: Path) -> str | None:
    """The template and the line where an error arose: the innermost template of the way there."""
    from jinja2 import TemplateSyntaxError

    if isinstance(error, TemplateSyntaxError):
        return f"{error.filename or error.name}, line {error.lineno}"
    folders = (str(own), str(templates_folder()))
    place = None
    step: TracebackType | None = error.__traceback__
    while step is not None:
        name = step.tb_frame.f_code.co_filename
        if name.startswith(folders) and name.endswith(".j2"):
            place = f"{name}, line {step.tb_lineno}"
        step = step.tb_next
    return place
