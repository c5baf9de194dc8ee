"""A partner's own templates: they replace single files, call nothing, and their mistakes are named by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
import samples

from exposure_scan import report
from exposure_scan.model import Problem
from exposure_scan.report import templates as folder


def html(own: Path) -> str:
    return report.render(samples.exposed_server(), "html", practices=samples.PRACTICES, templates=own)


def test_one_file_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    (tmp_path / "style.css.j2").write_text("body{color:teal}")
    text = html(tmp_path)
    assert "body{color:teal}" in text
    assert "5 important security practices are broken" in text
    usual = report.render(samples.exposed_server(), "html", practices=samples.PRACTICES)
    assert usual.split("<style>")[0] == text.split("<style>")[0]
    assert "body{color:teal}" not in usual


def test_what_an_own_template_shows_is_made_safe_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "report.html.j2").write_text(
        "<p>{{ page.scan.site.name }}|{{ page.scan.hosts[0].ports[0].banner }}</p>"
    )
    text = report.render(samples.hostile(), "html", practices=(), templates=tmp_path)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text
    assert len(text) < 3_000


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("<p>\n{{ page.no_such_thing }}", 2, "no_such_thing"),
        ("\n\n{{ nobody }}", 3, "'nobody' is undefined"),
        ("{% if %}", 1, "Expected an expression"),
        ("x\n{{ page.counts + 1 }}", 2, "can only concatenate tuple"),
        ("{{ page.scan.site.__class__.__mro__ }}", 1, "unsafe"),
        ("{{ page.hosts.append(1) }}", 1, "append"),
        ("\n{% include 'not-there.html.j2' %}", 2, "not-there.html.j2"),
    ],
)
def test_a_mistake_names_the_template_and_the_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    (tmp_path / "report.html.j2").write_text(text)
    with pytest.raises(Problem) as caught:
        html(tmp_path)
    (sentence,) = caught.value.sentences
    assert sentence.startswith(f"{tmp_path / 'report.html.j2'}, line {line}: ")
    assert said in sentence


def test_a_mistake_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "style.css.j2").write_text("a{}\nb{}\n{{ missing }}")
    with pytest.raises(Problem, match=r"style\.css\.j2, line 3: 'missing' is undefined"):
        html(tmp_path)


def test_grammar_is_checked_before_anything_is_shown(tmp_path: Path) -> None:
    (tmp_path / "style.css.j2").write_text("a{}")
    report.check_templates(tmp_path)
    (tmp_path / "mine.html.j2").write_text("\n{% for %}")
    with pytest.raises(Problem, match=r"mine\.html\.j2, line 2: "):
        report.check_templates(tmp_path)


def test_a_folder_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="is no folder"):
        html(tmp_path / "nowhere")


def test_a_mistake_of_our_own_is_not_blamed_on_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.html.j2").write_text("{{ page.no_such_thing }}")
    monkeypatch.setattr(folder, "templates_folder", lambda: tmp_path)
    folder._environment.cache_clear()
    try:
        with pytest.raises(Exception, match="no_such_thing") as caught:
            report.render(samples.exposed_server(), "html", practices=samples.PRACTICES)
        assert not isinstance(caught.value, Problem)
    finally:
        folder._environment.cache_clear()


def test_a_limit_that_a_template_sets_holds_and_its_text_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "report.html.j2").write_text("{{ page.scan.site.name|wire(900) }}|{{ page.scan.site.name|wire(20) }}")
    scan = samples.exposed_server()
    scan = scan.model_copy(update={"site": scan.site.model_copy(update={"name": "<b>" + "x" * 2_000})})
    long, short = report.render(scan, "html", practices=(), templates=tmp_path).split("|")
    assert len(long) == 900 + len("&lt;&gt;") - len("<>")
    assert long.startswith("&lt;b&gt;xxx")
    assert len(short) == 20 + len("&lt;&gt;") - len("<>")
