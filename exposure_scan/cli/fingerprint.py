"""The commands about fingerprints: try texts, learn from a unit of one's own, check packs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from .screen import say, show, table, write
from .shared import INCONCLUSIVE, NO_GO, DeviceWord, Packs, known, progress

if TYPE_CHECKING:
    from exposure_scan import classify

fingerprint_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="What answers are known, and learning more."
)


@fingerprint_app.command(
    "test",
    epilog="""Example: echo '{"field": "http.server", "value": "IST OIS"}' | exposure-scan fingerprint test""",
)
def try_texts(packs: Packs = None) -> None:
    """Read JSON lines {"field", "value"} on standard input and say what each banner is taken for."""
    import json

    from exposure_scan import classify
    from exposure_scan.model.text import json_text

    fingerprints = known(packs)
    for number, line in enumerate(sys.stdin, 1):
        if line.strip():
            row = classify.match_line(*_banner(number, line), known=fingerprints)
            write(json_text(json.dumps(row)) + "\n")


def _banner(number: int, line: str) -> tuple[str, str]:
    import json

    try:
        row = json.loads(line)
        field, value = row["field"], row["value"]
    except (ValueError, KeyError, TypeError):
        _refuse(number)
    if not isinstance(field, str) or not isinstance(value, str):
        _refuse(number)
    return field, value


def _refuse(number: int) -> NoReturn:
    from exposure_scan.model import Problem

    raise Problem(f'Line {number}: expected a JSON object like {{"field": "http.server", "value": "IST OIS"}}.')


# --- learn ---------------------------------------------------------------------------------------


@fingerprint_app.command(
    "learn",
    epilog="Example: exposure-scan fingerprint learn 198.51.100.30 --class px --model 'Px 6/2' --software 7.6.2 "
    "--authorized-by 'our own bench'",
)
def learn(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The unit on your bench.")],
    class_: Annotated[DeviceWord, typer.Option("--class", help="What the unit is.")],
    model: Annotated[str | None, typer.Option(help="Its model, as on its label.")] = None,
    software: Annotated[str | None, typer.Option(help="The version of its software, as its admin page shows.")] = None,
    authorized_by: Annotated[str | None, typer.Option(help="Who consented to this; required.")] = None,
    internal: Annotated[bool, typer.Option("--internal", help="Allow private addresses.")] = False,
    packs: Packs = None,
) -> None:
    """Learn what a unit of your own says, and write it into a fingerprint pack for later scans.

    It is scanned three times. Names, addresses, serial numbers, nonces and dates are taken out.
    """
    import asyncio

    from exposure_scan import classify, files, scope
    from exposure_scan.model import DeviceClass, Problem
    from exposure_scan.sweep import learning

    order = scope.order_from_words([address], authorized_by=authorized_by, internal=internal)
    folder = packs or classify.default_folder()
    label = classify.pack_name(model or "")
    named = label.startswith(class_.value)  # a Px 6/2 needs no second px
    name = classify.pack_name("" if named else class_.value, label, software or "")
    path = folder / f"{name}.toml"
    if path.exists():
        raise Problem(f"{path} is there already; move it away to learn such a unit anew.")
    files.make_folder(folder, "choose another with --packs")
    files.check_writable(path)
    device = {
        DeviceWord.SERVER: DeviceClass.SERVER,
        DeviceWord.HANDSET: DeviceClass.HANDSET,
        DeviceWord.PX: DeviceClass.PX,
    }[class_]
    with progress() as notice:
        done = asyncio.run(learning.learn(order, device, model, software, name, notice=notice))
    _print_parts(done.lesson)
    if done.lesson.pack is None:
        say("", f"Nothing that {done.address} says tells it from other devices. No pack was written.")
        raise typer.Exit(INCONCLUSIVE)
    files.write_file(path, done.lesson.pack)
    say(
        "",
        f"Written: {path}",
        f"Later scans take such words for an {classify.PRODUCTS[device]} "
        f"({done.lesson.confidence:.0%} sure). Read the pack before you share it.",
    )


def _print_parts(lesson: classify.Lesson) -> None:
    from exposure_scan.model.text import terminal_text

    if lesson.parts:
        rows = (
            (", ".join(part.ports), part.field, terminal_text(part.text), ("✓ " if part.kept else "- ") + part.because)
            for part in lesson.parts
        )
        show(table(("Port", "Field", "What it says", "Learnt"), rows))


# --- check ---------------------------------------------------------------------------------------


@fingerprint_app.command("check", epilog="Example: exposure-scan fingerprint check px-6-2-7-6-2.toml")
def check(
    pack_files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PACK.toml]...", help="Packs to check; by default all in the folder of packs."),
    ] = None,
    packs: Packs = None,
) -> None:
    """Check fingerprint packs as the scanner's own fingerprints are checked; a mistake exits with 1."""
    from exposure_scan import classify
    from exposure_scan.model import Problem

    folder = packs or classify.default_folder()
    paths = pack_files or sorted(folder.glob("*.toml"))
    if not paths:
        say(f"There is no pack in {folder}.")
    wrong = False
    for path in paths:
        try:
            pack, rows = classify.read_pack(_text(path), str(path))
        except Problem as problem:
            wrong = True
            say(*problem.sentences)
        else:
            examples = sum(len(row.example) for row in rows)
            say(f"{path}: {len(rows)} fingerprint(s), {examples} examples, no mistake. Origin: {pack.origin}")
    if wrong:
        raise typer.Exit(NO_GO)
    if not pack_files:
        known(packs)  # a name that is taken twice shows only beside the others


def _text(path: Path) -> str:
    from exposure_scan.model import Problem

    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{path} cannot be read ({error}).") from None
