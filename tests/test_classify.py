"""What each port is, then what the host is. The banners are those of the facts page, or synthetic."""

from __future__ import annotations

import pytest
from banners import FOREIGN
from hypothesis import given
from hypothesis import strategies as st

from exposure_scan.classify import CLAIM, FAMILY, HEURISTIC_CEILING, classify_host, classify_port, match
from exposure_scan.model import Device, DeviceClass, Port, PortState, Site

SERVER, HANDSET, PX = DeviceClass.SERVER, DeviceClass.HANDSET, DeviceClass.PX
ALLWORX, OTHER, UNKNOWN = DeviceClass.ALLWORX, DeviceClass.OTHER, DeviceClass.UNKNOWN

SMTP = "220 pbx.lab.invalid InSciTek OIS Ready here ESMTP"
POP3 = "+OK POP3 Server pbx.lab.invalid (InSciTek OIS) ready <1.2@pbx.lab.invalid>"
POSTFIX = "220 mail.lab.invalid ESMTP Postfix"


def port(key: str, state: PortState = PortState.OPEN, **said: str) -> Port:
    """A port with its texts; ``smtp_greeting=...`` is the field smtp.greeting. Evidence: ``e tcp/25``."""
    transport, number = key.split("/")
    return Port(
        transport="tcp" if transport == "tcp" else "udp",
        port=int(number),
        state=state,
        reason="synthetic",
        said={name.replace("_", ".", 1).replace("_", "-"): text for name, text in said.items()},
        evidence=(f"e {key}",),
    )


def site(device: DeviceClass | None = None, model: str | None = None) -> Site:
    return Site(name="Synthetic site", targets=("198.51.100.10",), device=device, model=model)


MAIL = port("tcp/25", smtp_greeting=SMTP)
ADMIN = port("tcp/8080", http_server="IST OIS", http_status="403")
HOSTED = port("tcp/80", http_server="IST OIS", http_title="Allworx Hosted Web Site")
DIRECTORY = port("tcp/8081", http_server="IST OIS", http_www_authenticate='Digest realm="users@pbx.lab.invalid"')
PHONE = port("tcp/8000", http_server="IST OIS", http_title="Phone&nbsp;Station&nbsp;Information")
AGENT = port("udp/161", snmp_enterprise="38516")
SOMETHING = port("tcp/443", http_server="IST OIS")
FOREIGN_MAIL = port("tcp/587", smtp_greeting=POSTFIX)
FOREIGN_SIP = port("udp/5060", sip_server="Asterisk PBX 18.9")
NAMED_SIP = port("udp/5061", sip_server="Allworx 6x12")
PX_TITLE = port("tcp/8443", http_title="Port Expander")
WORDLESS = port("tcp/5060")
SHUT = port("tcp/143", PortState.FILTERED)
EVERY = (
    MAIL, ADMIN, HOSTED, DIRECTORY, PHONE, AGENT, SOMETHING, FOREIGN_MAIL, FOREIGN_SIP, NAMED_SIP, PX_TITLE, WORDLESS,
    SHUT,
)  # fmt: skip


def device_of(port: Port) -> Device:
    device = classify_port(port).device
    assert device is not None
    return device


def host(*ports: Port, declared: DeviceClass | None = None, model: str | None = None) -> list[Device]:
    main, also = classify_host(ports, site(declared, model))
    return [main, *also]


def seen(*ports: Port, declared: DeviceClass | None = None) -> list[tuple[DeviceClass, float]]:
    return [(device.class_, device.confidence) for device in host(*ports, declared=declared)]


# --- one port ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "class_", "confidence", "product"),
    [
        pytest.param(MAIL, SERVER, 0.95, "Allworx server", id="F1"),
        pytest.param(port("tcp/110", pop3_greeting=POP3), SERVER, 0.95, "Allworx server", id="F2"),
        pytest.param(PHONE, HANDSET, 0.95, "Allworx handset", id="F3"),
        pytest.param(HOSTED, SERVER, 0.95, "Allworx server", id="F4"),
        pytest.param(ADMIN, ALLWORX, 0.9, "Allworx", id="F5: the family is certain, the class a hint"),
        pytest.param(DIRECTORY, SERVER, 0.95, "Allworx server", id="F6"),
        pytest.param(SOMETHING, ALLWORX, 0.9, "Allworx", id="R6: never guessed further"),
        pytest.param(port("udp/161", snmp_sysdescr="ALLWORX 9308"), HANDSET, 0.95, "Allworx handset", id="R7"),
        pytest.param(AGENT, ALLWORX, 0.9, "Allworx", id="R8"),
        pytest.param(FOREIGN_MAIL, OTHER, 0.95, "Postfix", id="R14"),
    ],
)
def test_a_port_is_what_it_says(asked: Port, class_: DeviceClass, confidence: float, product: str) -> None:
    found = classify_port(asked)
    assert found.device is not None
    assert (found.device.class_, found.device.confidence, found.product) == (class_, confidence, product)
    assert found.device.declared is False


@pytest.mark.parametrize("key", ["tcp/25", "tcp/2525", "tcp/8080", "tcp/65535"])
def test_a_greeting_means_the_same_on_every_port(key: str) -> None:
    assert device_of(port(key, smtp_greeting=SMTP)).class_ is SERVER


@pytest.mark.parametrize(("field", "value", "product"), FOREIGN)
def test_a_foreign_port_is_never_allworx_not_even_on_8080(field: str, value: str, product: str | None) -> None:
    found = classify_port(port("tcp/8080").model_copy(update={"said": {field: value}}))
    assert found.product == product
    assert (found.device.class_ if found.device else None) == (OTHER if product else None)
    assert {device.class_ for device in host(found)} == {OTHER if product else UNKNOWN}


@pytest.mark.parametrize(
    "asked",
    [
        WORDLESS,
        SHUT,
        port("udp/2088", PortState.OPEN_FILTERED),
        port("tcp/8080", http_status="200", http_title="Welcome"),
        port("udp/5060", sip_status="SIP/2.0 200 OK", sip_allow="OPTIONS"),
        port("tcp/80", http_accept_ranges="none"),  # R13 is weak and decides nothing
    ],
    ids=lambda asked: asked.key,
)
def test_a_port_without_known_words_is_no_device(asked: Port) -> None:
    assert classify_port(asked) == asked
    assert seen(asked) == [(UNKNOWN, 0.0)]


def test_old_conclusions_are_dropped_where_nothing_known_is_said() -> None:
    stale = WORDLESS.model_copy(update={"device": device_of(MAIL), "product": "Allworx server"})
    assert classify_port(stale) == WORDLESS


@pytest.mark.parametrize("asked", EVERY, ids=lambda asked: asked.key)
def test_classifying_changes_device_and_product_alone_and_twice_is_once(asked: Port) -> None:
    found = classify_port(asked)
    assert found.model_copy(update={"device": None, "product": None}) == asked
    assert classify_port(found) == found


@pytest.mark.parametrize(
    "asked",
    [
        port("tcp/80", http_title="Allworx Hosted Web Site"),
        port("tcp/80", http_title="Phone&nbsp;Station&nbsp;Information", http_server="thttpd"),
        PX_TITLE,
        NAMED_SIP,
    ],
)
def test_a_hint_alone_claims_nothing_and_is_still_shown(asked: Port) -> None:
    found = classify_port(asked)
    assert found.device is not None
    assert (found.device.class_, found.device.confidence, found.product) == (UNKNOWN, 0.0, None)
    (hint,) = found.device.support
    assert hint.says in FAMILY
    assert hint.confidence < CLAIM
    assert seen(asked) == [(UNKNOWN, 0.0)]


def test_support_lists_all_that_matched_the_surest_first_with_the_ports_evidence() -> None:
    device = device_of(HOSTED)
    assert [support.fingerprint for support in device.support] == ["http-title-hosted-web-site", "http-ist-ois"]
    assert {support.evidence for support in device.support} == {("e tcp/80",)}
    assert device.evidence == ("e tcp/80",)
    assert [s.fingerprint for s in device_of(ADMIN).support] == ["http-ist-ois", "http-ist-ois-8080"]


def test_a_foreign_port_shows_product_and_version_and_keeps_the_hint_against_it() -> None:
    found = classify_port(port("udp/5060", sip_server="Asterisk PBX 18.9", sip_user_agent="Allworx"))
    assert found.device is not None
    assert (found.device.class_, found.device.version, found.product) == (OTHER, "18.9", "Asterisk")
    assert [support.says for support in found.device.support] == [OTHER]
    assert [support.says for support in found.device.against] == [ALLWORX]


def test_a_copied_title_on_a_foreign_server_makes_no_server_of_it() -> None:
    found = classify_port(port("tcp/80", http_server="nginx/1.24.0", http_title="Allworx Hosted Web Site"))
    assert found.device is not None
    assert (found.device.class_, found.device.version, found.product) == (OTHER, "1.24.0", "nginx")


def test_company_on_another_port_does_not_count() -> None:
    title = port("tcp/80", http_title="Allworx Hosted Web Site")
    assert device_of(title).class_ is UNKNOWN
    assert seen(title, SOMETHING) == [(ALLWORX, 0.95)]  # 1 - 0.1 * 0.5, and no server


def test_a_model_is_read_from_the_words() -> None:
    device = device_of(port("udp/161", snmp_sysdescr="ALLWORX 9212"))
    assert (device.class_, device.model, device.version) == (HANDSET, "9212", None)


FIELDS = st.sampled_from(["http.server", "http.title", "smtp.greeting", "sip.server", "snmp.sysdescr"])


@given(st.dictionaries(FIELDS | st.text(), st.text()))
def test_no_text_makes_classifying_fail(said: dict[str, str]) -> None:
    asked = port("tcp/8080").model_copy(update={"said": said})
    host(classify_port(asked))


# --- one host ------------------------------------------------------------------------------------


def test_no_port_is_no_device() -> None:
    assert seen() == [(UNKNOWN, 0.0)]


def test_a_server_and_a_handset_behind_one_address_are_two_devices() -> None:
    main, also = classify_host((PHONE, MAIL, FOREIGN_SIP), site())
    assert [device.class_ for device in (main, *also)] == [SERVER, HANDSET, OTHER]
    assert main.evidence == ("e tcp/25",)
    assert [device.evidence for device in also] == [("e tcp/8000",), ("e udp/5060",)]


def test_one_port_never_overwrites_another() -> None:
    ports = [classify_port(asked) for asked in EVERY]
    alone = {asked.key: device_of(asked).class_ for asked in EVERY if asked not in (WORDLESS, SHUT)}
    assert {found.key: found.device.class_ for found in ports if found.device} == alone
    assert len(set(alone.values())) == 5
    classify_host(ports, site(PX))
    assert ports == [classify_port(asked) for asked in EVERY]


def test_the_surer_device_comes_first() -> None:
    """Two half-sure signs of a server (0.8 together) stand behind one sure sign of a handset."""
    assert seen(ADMIN, port("tcp/80", http_title="Allworx Hosted Web Site"), PHONE) == [(HANDSET, 0.95), (SERVER, 0.8)]


def test_several_kinds_of_words_make_it_surer_and_the_same_ones_again_do_not() -> None:
    assert seen(MAIL)[0] == (SERVER, 0.95)
    assert seen(MAIL, port("tcp/2525", smtp_greeting=SMTP))[0] == (SERVER, 0.95)
    assert seen(MAIL, port("tcp/2525", smtp_greeting=SMTP.replace("pbx", "pbx2")))[0] == (SERVER, 0.95)
    assert seen(MAIL, HOSTED)[0] == (SERVER, 0.9975)


def test_one_hint_in_two_spellings_does_not_become_a_claim() -> None:
    titles = ("Phone Station Information", "Phone&nbsp;Station&nbsp;Information", " Phone Station Information")
    ports = [port(f"tcp/{8000 + number}", http_title=title) for number, title in enumerate(titles)]
    assert seen(*ports) == [(UNKNOWN, 0.0)]


def test_guesses_never_add_up_to_a_claim() -> None:
    guesses = [NAMED_SIP, port("tcp/5060", sip_user_agent="Allworx"), PX_TITLE]
    (device,) = host(*guesses)
    assert (device.class_, device.confidence) == (UNKNOWN, 0.0)
    assert {support.heuristic for support in device.support} == {True}
    assert len(device.support) == 3
    assert HEURISTIC_CEILING < CLAIM


def test_a_guess_never_makes_a_fact_surer() -> None:
    assert seen(SOMETHING, NAMED_SIP) == [(ALLWORX, 0.9)]


def test_the_family_alone_is_reported_as_the_family() -> None:
    assert seen(SOMETHING, AGENT) == [(ALLWORX, 0.99)]
    assert seen(ADMIN) == [(ALLWORX, 0.9)]


def test_the_family_is_not_repeated_beside_its_member() -> None:
    assert [class_ for class_, _ in seen(MAIL, SOMETHING, AGENT)] == [SERVER]


def test_one_device_stands_for_all_foreign_products() -> None:
    (device,) = host(FOREIGN_SIP, FOREIGN_MAIL)
    assert (device.class_, device.confidence, device.version) == (OTHER, 0.95, None)
    assert set(device.evidence) == {"e udp/5060", "e tcp/587"}
    assert {support.fingerprint for support in device.support} == {"sip-server-asterisk", "smtp-postfix"}


def test_a_device_of_the_host_cites_the_ports_that_speak_for_it() -> None:
    (server, handset) = host(MAIL, HOSTED, PHONE, WORDLESS)
    assert server.evidence == ("e tcp/25", "e tcp/80")
    assert handset.evidence == ("e tcp/8000",)
    for device in (server, handset):
        assert {id_ for support in device.support for id_ in support.evidence} == set(device.evidence)
        assert {support.says for support in device.support} == {device.class_}


# --- the operator's word -------------------------------------------------------------------------


@pytest.mark.parametrize("declared", [SERVER, HANDSET, PX])
@pytest.mark.parametrize("ports", [(), (WORDLESS, SHUT), (NAMED_SIP,)])
def test_a_declared_device_is_shown_as_declared(declared: DeviceClass, ports: tuple[Port, ...]) -> None:
    (device,) = host(*ports, declared=declared, model="6x12")
    assert (device.class_, device.declared, device.confidence, device.model) == (declared, True, 0.0, "6x12")
    assert (device.evidence, device.support) == ((), ())


def test_what_was_seen_against_the_word_comes_first() -> None:
    devices = host(MAIL, declared=HANDSET, model="9212")
    assert [(device.class_, device.declared) for device in devices] == [(SERVER, False), (HANDSET, True)]
    assert [device.model for device in devices] == [None, "9212"]
    assert devices[0].evidence == ("e tcp/25",)


@pytest.mark.parametrize("asked", [SOMETHING, FOREIGN_MAIL])
def test_what_does_not_settle_the_class_stands_behind_the_word(asked: Port) -> None:
    main, other = host(asked, declared=PX)
    assert (main.class_, main.declared) == (PX, True)
    assert (other.class_, other.declared, other.evidence) == (device_of(asked).class_, False, (f"e {asked.key}",))


def test_a_word_that_the_wire_confirms_is_no_declaration_any_more() -> None:
    (device,) = host(MAIL, declared=SERVER, model="6x12")
    assert (device.class_, device.declared, device.confidence, device.model) == (SERVER, False, 0.95, "6x12")


def test_a_model_that_was_seen_stands_before_the_one_that_was_told() -> None:
    assert host(port("udp/161", snmp_sysdescr="ALLWORX 9308"), declared=HANDSET, model="9212")[0].model == "9308"


def test_a_told_model_goes_to_the_told_class_alone() -> None:
    assert [(d.class_, d.model) for d in host(MAIL, PHONE, declared=HANDSET, model="9212")] == [
        (SERVER, None),
        (HANDSET, "9212"),
    ]


@pytest.mark.parametrize("declared", [ALLWORX, OTHER, UNKNOWN])
def test_only_a_server_a_handset_and_a_px_can_be_declared(declared: DeviceClass) -> None:
    assert seen(MAIL, declared=declared) == seen(MAIL)


# --- order ---------------------------------------------------------------------------------------


@given(st.permutations(EVERY), st.integers(0, len(EVERY)), st.sampled_from([None, SERVER, HANDSET, PX]))
def test_the_order_of_the_ports_changes_nothing(ports: list[Port], count: int, declared: DeviceClass | None) -> None:
    chosen = ports[:count]
    usual = sorted(chosen, key=EVERY.index)
    assert classify_host(chosen, site(declared, "6x")) == classify_host(usual, site(declared, "6x"))


@given(st.permutations(EVERY))
def test_ports_that_were_classified_before_give_the_same_host(ports: list[Port]) -> None:
    assert classify_host([classify_port(asked) for asked in ports], site()) == classify_host(EVERY, site())


def test_matches_are_listed_with_the_surest_first() -> None:
    found = match("http.server", "IST OIS", {}, "tcp/8080")
    assert [support.confidence for support in found] == [0.9, 0.6]


# --- what contradicts ----------------------------------------------------------------------------


def test_a_port_that_says_two_things_firmly_claims_neither_and_shows_both() -> None:
    both = classify_port(port("tcp/80", http_server="IST OIS", sip_server="Asterisk PBX 18.9"))
    assert both.device is not None
    assert (both.device.class_, both.product) == (UNKNOWN, None)
    assert {support.says for support in both.device.support} == {ALLWORX, OTHER}


def test_a_server_and_a_handset_on_one_port_are_the_family_and_no_more() -> None:
    title = "Phone&nbsp;Station&nbsp;Information"
    found = classify_port(port("tcp/80", smtp_greeting=SMTP, http_title=title, http_server="IST OIS"))
    assert found.device is not None
    assert (found.device.class_, found.product) == (ALLWORX, "Allworx")


def test_the_same_words_on_two_ports_do_not_weaken_each_other() -> None:
    device, also = classify_host([MAIL, PHONE, FOREIGN_MAIL], site())
    assert {one.class_ for one in (device, *also)} == {SERVER, HANDSET, OTHER}
    assert all(one.against == () for one in (device, *also))


def test_what_could_not_be_claimed_alone_takes_nothing_away_and_is_shown_beside() -> None:
    copied = port("tcp/80", http_server="nginx/1.22.1", http_title="Allworx Hosted Web Site")
    device = device_of(copied)
    assert (device.class_, device.confidence) == (OTHER, 0.95)
    assert [(one.says, one.confidence) for one in device.against] == [(SERVER, 0.5)]
    main, _ = classify_host([copied], site())
    assert [one.fingerprint for one in main.against] == ["http-title-hosted-web-site"]


def test_a_guess_takes_nothing_away_from_what_is_known() -> None:
    device = device_of(port("udp/5060", sip_server="Asterisk PBX 18.9", sip_user_agent="Allworx 6x"))
    assert (device.class_, device.confidence) == (OTHER, 0.95)


def test_a_support_says_where_it_stood_and_by_whose_word_it_counts() -> None:
    (support,) = device_of(MAIL).support
    assert (support.port, support.pack, support.evidence) == ("tcp/25", None, ("e tcp/25",))
    assert support.source == "nmap-service-probes@db4aefddf:3384"
