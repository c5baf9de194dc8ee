"""Writes the tables of docs/licences.md anew from what the installed packages say of themselves: ``make licences``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from dependencies import closure, direct
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

PAGE = Path(__file__).parent / "licences.md"
EXTRAS = ("nmap", "pdf")
# What each dependency that pyproject.toml names is here for. Those that come along are told by who needs them.
WHY = {
    "apscheduler": "when a site's schedule is due (`sweep`)",
    "cryptography": "reads certificates; keys and certificates of the practice site",
    "css-inline": "styles of a mail's HTML part",
    "defusedxml": "reads Nmap's XML without its dangerous parts",
    "dnspython": "looks up the names of a site",
    "google-re2": "fingerprints' patterns, in time that grows only with the text",
    "jinja2": "templates of reports and mails",
    "platformdirs": "the user's folders for state and data",
    "pydantic": "the types of a scan's JSON and its schema",
    "python-nmap": "starts Nmap for a second opinion, in a process of its own",
    "rich": "output on a terminal",
    "sqlalchemy": "the history's database",
    "tomli-w": "writes learnt fingerprint packs",
    "typer": "the command line",
    "weasyprint": "draws the PDF",
}
# Licences as packages state them -> whether the result can be passed on under GPL 2 and later, or 3 and later alone.
_PYPHEN = (
    "GNU General Public License v2 or later (GPLv2+); GNU Lesser General Public License v2 or later (LGPLv2+); "
    "Mozilla Public License 1.1 (MPL 1.1)"
)
TWO, THREE = "GPL 2 or later", "**GPL 3 or later only**"
GOES_WITH = {
    **dict.fromkeys(
        (
            "Apache-2.0 OR BSD-3-Clause", "BSD License", "BSD-2-Clause", "BSD-3-Clause", "ISC", "ISC License (ISCL)",
            "MIT", "MIT License", "MIT AND PSF-2.0", "MIT-0", "MIT-CMU", "PSF-2.0",
            "Python Software Foundation License",
            _PYPHEN,
        ),
        TWO,
    ),
    **dict.fromkeys(("Apache-2.0", "Apache Software License", "GNU General Public License (GPL)"), THREE),
}  # fmt: skip
# Licences of parts inside binary files; a part may offer several (OR), of which one is enough.
_FREE = re.compile(
    r"0BSD|Apache-2\.0 WITH LLVM-exception|BSD-[23]-Clause|BSL-1\.0|CC0-1\.0|IJG|ISC|MIT(-0|-CMU)?|PSF-2\.0|libtiff|"
    r"GPL-2\.0-only|LGPL-2\.1-or-later|Unicode-3\.0|Unicode-DFS-2016|Unlicense|X11|Zlib"
)


def stated(package: Distribution) -> str:
    """The licence that a distribution's own metadata states: the expression, else its classifiers, else the field."""
    of = package.metadata
    if "License-Expression" in of:
        return of["License-Expression"]
    classified = [
        line.rpartition(" :: ")[2]
        for line in of.get_all("Classifier") or ()
        if line.startswith("License ::") and line != "License :: OSI Approved"
    ]
    return "; ".join(classified) or " ".join(of.get_all("License") or ()).partition("\n")[0] or "none stated"


def rows(*extras: str) -> Iterator[tuple[str, str, str, str, str]]:
    """Name, allowed versions, licence, reason and verdict for all that comes with these extras, the wheel's if none.

    Raises:
        KeyError: nobody has judged the licence, or said what the dependency is for.
    """
    named = {canonicalize_name(wanted.name) for wanted in direct(["", *EXTRAS])}
    found = closure(*extras)
    for name, versions in found.items():
        package = distribution(name)
        licence = stated(package)
        if name in named:
            why = WHY[name]
        else:
            why = "needed by " + ", ".join(other for other in found if name in _needs(other))
        yield name, _shown(versions), licence, why, GOES_WITH[licence]


def _shown(versions: SpecifierSet) -> str:
    """The versions that all agree to, without lower bounds that another one is above."""
    lower = sorted((each for each in versions if each.operator == ">="), key=lambda each: Version(each.version))
    others = sorted({str(each) for each in versions if each.operator != ">="})
    return ", ".join([*map(str, lower[-1:]), *others]) or "any"


def _needs(name: str) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in distribution(name).requires or ()}


def binary_parts(name: str) -> Iterator[tuple[str, str]]:
    """What a distribution's bills of materials name that does not go with GPL 2: part and licence."""
    package = distribution(name)
    for file in package.files or ():
        if file.parent.name == "sboms" and file.suffix == ".json":
            for part in json.loads(file.read_text("utf-8")).get("components", ()):
                said = [
                    each.get("expression") or each["license"].get("id") or each["license"].get("name")
                    for each in part.get("licenses", ())
                ]
                if said and not any(_is_free(choice) for text in said for choice in text.split(" OR ")):
                    yield part["name"], " / ".join(said)


def _is_free(choice: str) -> bool:
    return all(_FREE.fullmatch(word.strip("() ")) for word in choice.split(" AND "))


def tables() -> dict[str, str]:
    """The page's generated parts by name."""
    always = closure()
    head = "| package | versions | licence, as it states it | what for | goes with |\n|---|---|---|---|---|\n"

    def table(found: Iterator[tuple[str, str, str, str, str]]) -> str:
        return head + "".join("| " + " | ".join(row) + " |\n" for row in found)

    parts = "| package | part | licence |\n|---|---|---|\n" + "".join(
        f"| {name} | {part} | {licence} |\n"
        for name in closure(*EXTRAS)
        for part, licence in sorted(set(binary_parts(name)))
    )
    return {
        "wheel": table(rows()),
        "extras": table(row for row in rows(*EXTRAS) if row[0] not in always),
        "parts": parts,
    }


def main() -> None:
    """Write the tables into the page, each between its marks."""
    page = PAGE.read_text("utf-8")
    for name, table in tables().items():
        page = re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>\n{table}\n\2", page, flags=re.DOTALL)
    PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
