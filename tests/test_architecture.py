"""The walls between rooms (docs/adr/0001): imports go one way, and some acts have one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "exposure_scan"
GROUND = {"model", "conversation", "files", "__init__"}  # what every room may import
STAGES = {"scope", "plan", "protocols", "transport", "classify", "assess", "evidence", "history", "report"}
STAGES |= {"deliver", "vantage", "lab", "nmap"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> Iterator[tuple[int, str]]:
    """Each room of ours that a module imports, with the line."""
    depth = len(path.relative_to(PACKAGE).parts)  # 1 for a top-level module
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("exposure_scan"):
                    yield node.lineno, [*alias.name.split("."), "__init__"][1]
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".") if node.module else []
            if node.level == 0 and module[:1] == ["exposure_scan"]:
                module = module[1:]
            elif node.level != depth:
                continue  # another package, or a file of the same room
            if module:
                yield node.lineno, module[0]
            else:
                for alias in node.names:
                    is_room = (PACKAGE / alias.name).exists() or (PACKAGE / f"{alias.name}.py").exists()
                    yield node.lineno, alias.name if is_room else "__init__"


def allowed(importer: str) -> set[str]:
    if importer in GROUND:
        return GROUND
    if importer in STAGES:
        return GROUND | {importer}
    if importer == "sweep":
        return GROUND | STAGES - {"lab"}
    if importer == "cli":
        return GROUND | STAGES | {"sweep"}
    return GROUND | STAGES | {"sweep", "cli"}  # __main__


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    wrong = [f"line {line}: {other}" for line, other in imported_rooms(path) if other not in allowed(room(path))]
    assert not wrong, f"{room(path)} may not import these rooms"


def test_the_ground_imports_nothing_but_itself() -> None:
    found = {other for path in (PACKAGE / "model").glob("*.py") for _, other in imported_rooms(path)}
    assert found == set()


def test_only_the_command_line_exits() -> None:
    found = []
    for path in modules():
        if room(path) in ("cli", "__main__", "lab"):  # lab has processes of its own
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("exit", "_exit", "stdout", "stderr"):
                if isinstance(node.value, ast.Name) and node.value.id in ("sys", "os"):
                    found.append(f"{path.name}:{node.lineno}")
            elif isinstance(node, ast.Name) and node.id in ("SystemExit", "print"):
                found.append(f"{path.name}:{node.lineno}")
    assert found == []


def test_no_file_grows_past_a_reader() -> None:
    long = {path.name: lines for path in modules() if (lines := path.read_text().count("\n")) > 450}
    assert long == {}
