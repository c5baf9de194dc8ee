"""Fingerprint packs: what a partner learnt counts like the scanner's own rows, and has to pass their tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from exposure_scan.classify import (
    Known,
    built_in,
    classify_host,
    classify_port,
    default_folder,
    known_with,
    match_line,
    pack_name,
    read_pack,
    read_packs,
)
from exposure_scan.model import DeviceClass, Port, PortState, Problem, Site

PACK = """
[pack]
name = "bench-px"
origin = "learnt on a bench (synthetic)"

[[fingerprint]]
id = "http.title"
field = "http.title"
pattern = '^Synthetic Expander (?P<model>\\w+) (?P<version>[0-9.]+)$'
class = "allworx-px"
product = "Allworx Px Expander"
confidence = 0.8
source = "a bench (synthetic)"
example = [
    { value = "Synthetic Expander Z1 1.2", model = "Z1", version = "1.2" },
    { value = "Expander", match = false },
]
"""
SITE = Site(name="Synthetic site", targets=("198.51.100.30",))


def page(title: str) -> Port:
    said = {"http.title": title}
    return Port(transport="tcp", port=80, state=PortState.OPEN, reason="syn-ack", said=said, evidence=("e1",))


def changed(**words: str) -> str:
    """The pack with one line's value replaced."""
    lines = PACK.splitlines()
    for key, value in words.items():
        (number,) = (n for n, line in enumerate(lines) if line.startswith(f"{key.rstrip('_')} ="))
        lines[number] = f"{key.rstrip('_')} = {value}"
    return "\n".join(lines)


def test_a_pack_tells_class_model_and_version_and_names_itself() -> None:
    known = known_with([("bench-px.toml", PACK)])
    port = classify_port(page("Synthetic Expander Z2 2.0"), known)
    device, _ = classify_host([port], SITE, known)
    assert (device.class_, device.confidence) == (DeviceClass.PX, 0.8)
    assert (device.model, device.version) == ("Z2", "2.0")
    assert [(one.pack, one.fingerprint, one.source) for one in device.support] == [
        ("bench-px", "http.title", "a bench (synthetic)")
    ]
    assert known.packs["bench-px"].origin == "learnt on a bench (synthetic)"
    assert match_line("http.title", "Synthetic Expander Z1 1.2", known)["fingerprint"] == "bench-px/http.title"


def test_without_the_pack_the_same_words_say_nothing() -> None:
    assert classify_port(page("Synthetic Expander Z2 2.0")).device is None


def test_two_packs_that_contradict_each_other_claim_neither() -> None:
    other = PACK.replace("bench-px", "bench-server").replace("allworx-px", "allworx-server")
    known = known_with([("a.toml", PACK), ("b.toml", other)])
    device, also = classify_host([classify_port(page("Synthetic Expander Z1 1.2"), known)], SITE, known)
    assert (device.class_, also) == (DeviceClass.ALLWORX, ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PACK.replace("[pack]", "[package]"), r"it has no \[pack\] with name and origin"),
        (PACK.partition("[[")[0], r"expected \[\[fingerprint\]\] rows"),
        ("[pack", "at the end of a table declaration"),
        ("x = " + "[" * 5000 + "]" * 5000, "it is nested too deeply"),
        ("x = 0x" + "f" * 9000 + "\ny = " + "9" * 9000, "digits"),
        (changed(name='"Bench Px"'), "pack.name"),
        (changed(origin='""'), "pack.origin"),
        (changed(pattern="'('"), "no regular expression of RE2"),
        (changed(pattern="'^(?:S)(?=y)'"), "no regular expression of RE2"),
        (changed(field='"http.colour"'), "not in vocabulary.toml"),
        (changed(class_='"allworks"'), "class"),
        (changed(confidence="0.95"), "never surer than 0.9"),
        (changed(pattern="'^Something else$'"), "example 1 gives a confidence of 0.0, not 0.8"),
        (changed(pattern="'Expander'"), "example 2 gives a confidence of 0.8, not 0.0"),
        (changed(pattern="'^Synthetic Expander'"), "example 1 names another model or version"),
        (changed(pattern="'^Synthetic|^$'"), "takes '' for its own, which anybody may say"),
        (changed(pattern="'^Synthetic|^Login'"), "takes 'Login' for its own, which anybody may say"),
        (PACK.replace('id = "http.title"', 'id = "http.title"\npack = "other"'), "a row does not say where it is from"),
        (PACK + PACK.partition("\n\n")[2], "the id is taken"),
    ],
)
def test_a_mistake_in_a_pack_is_named_with_the_file(text: str, message: str) -> None:
    with pytest.raises(Problem, match=f"bench.toml: (?s:.*){message}"):
        read_pack(text, "bench.toml")


@pytest.mark.parametrize(
    ("field", "pattern", "value", "whose"),
    [
        ("http.server", "^nginx", "nginx/9", "nginx"),
        ("smtp.greeting", "^220 .*Postfix", "220 h ESMTP Postfix X", "Postfix"),
        ("http.server", "^IST OIS", "IST OIS/2", "Allworx"),
        ("http.title", "Station", "Some Station", "Allworx handset"),
    ],
)
def test_a_pack_cannot_claim_the_words_of_others(field: str, pattern: str, value: str, whose: str) -> None:
    class_ = '"other"' if whose == "Allworx" else '"allworx-px"'
    example = f'[{{ value = "{value}" }}, {{ value = "no", match = false }}]'
    text = changed(field=f'"{field}"', pattern=f"'{pattern}'", class_=class_).partition("example")[0]
    with pytest.raises(Problem, match=f"it takes the words of {whose} for its own"):
        read_pack(f"{text}example = {example}\n", "bench.toml")


def test_a_folder_of_packs_is_read_whole_or_refused_with_every_mistake(tmp_path: Path) -> None:
    assert read_packs(tmp_path / "nothing") is built_in()
    (tmp_path / "good.toml").write_text(PACK)
    (tmp_path / "notes.txt").write_text("no pack")
    assert set(read_packs(tmp_path).packs) == {"bench-px"}
    (tmp_path / "twin.toml").write_text(PACK)
    (tmp_path / "worse.toml").write_bytes(b"\xff")
    (tmp_path / "wrong.toml").write_text(changed(pattern="'('"))
    with pytest.raises(Problem) as refused:
        read_packs(tmp_path)
    said = str(refused.value)
    assert "twin.toml: there is another pack of the name bench-px" in said
    assert "worse.toml cannot be read" in said
    assert "wrong.toml: fingerprint 1 (http.title)" in said


def test_a_pack_does_not_change_what_the_scanner_knows_itself() -> None:
    known = known_with([("a", PACK)])
    assert isinstance(known, Known)
    assert known.rows[: len(built_in().rows)] == built_in().rows


def test_names_of_packs_are_file_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert pack_name("handset", "Verge 9312", "") == "handset-verge-9312"
    assert pack_name("../../etc", "", "ß") == "etc"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "exposure-scan" / "packs"
