"""Identifiers as they come: spaced, dotted, misprinted, hostile."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import luhn

from gateway.domain import identifiers
from gateway.errors import Refused

digits8 = st.text("0123456789", min_size=8, max_size=8)


def _siren(start: str) -> str:
    return start + luhn.calc_check_digit(start)


@pytest.mark.parametrize("written", ["404833048", "404 833 048", "404.833.048", " 404\u00a0833\u202f048 "])
def test_a_siren_is_kept_compact(written: str) -> None:
    """People write it in groups, with whatever blank their keyboard has."""
    assert identifiers.siren(written) == "404833048"


@given(digits8, st.integers(1, 9), st.integers(0, 8))
def test_one_wrong_digit_in_a_siren_is_found(start: str, shift: int, place: int) -> None:
    """Luhn: the invoice would otherwise be another company's."""
    good = _siren(start)
    bad = good[:place] + str((int(good[place]) + shift) % 10) + good[place + 1 :]
    assert identifiers.siren(good) == good
    with pytest.raises(Refused) as refused:
        identifiers.siren(bad)
    assert refused.value.code == "siren_check"


@pytest.mark.parametrize(
    "written", ["", "40483304", "4048330480", "40483304A", "٤٠٤٨٣٣٠٤٨", "404-833-048", "404833048\x00"]
)
def test_a_siren_has_nine_digits(written: str) -> None:
    """ASCII ones: Arabic-Indic digits are digits to `str.isdigit`."""
    with pytest.raises(Refused) as refused:
        identifiers.siren(written)
    assert refused.value.code == "siren_format"


def test_a_siret_names_a_siren_and_its_own_check_only_warns() -> None:
    """La Poste's SIRETs fail Luhn by design."""
    assert identifiers.siren_of_siret("404 833 048 00022") == ("404833048", True)
    assert identifiers.siren_of_siret("40483304800023") == ("404833048", False)
    for written, code in (("4048330480002", "siret_format"), ("40483304900022", "siren_check")):
        with pytest.raises(Refused) as refused:
            identifiers.siren_of_siret(written)
        assert refused.value.code == code


@pytest.mark.parametrize(
    ("written", "party"),
    [
        ("404 833 048", "404833048"),
        ("40483304800022", "404833048"),
        ("404-833-048", "404833048"),
        ("FR83404833048", "404833048"),
        ("fr 83 404 833 048", "404833048"),
        ("DE123456789", "DE123456789"),
        ("de 123.456-789", "DE123456789"),
        ("BE0123456789", "BE0123456789"),
        ("FR83404833049", "FR83404833049"),  # no SIREN in it: the form is all that can be said
    ],
)
def test_a_party_is_known_by_its_siren_or_a_foreign_one_by_its_vat_number(written: str, party: str) -> None:
    """One company, one key, however the document names it."""
    assert identifiers.party(written) == party
    assert identifiers.party(party) == party


@pytest.mark.parametrize("written", ["", "X", "1", "ABCDEFGHIJKLMNOPQ", "D3123456", "DE", "DE1", "404833049", "DE12é"])
def test_what_names_no_party_is_refused(written: str) -> None:
    """With a code of its own, never a traceback."""
    with pytest.raises(Refused):
        identifiers.party(written)


@given(st.text(max_size=40))
def test_whatever_comes_a_party_is_short_and_plain_or_refused(written: str) -> None:
    """It becomes a key of 15 characters in the database."""
    try:
        party = identifiers.party(written)
    except Refused:
        return
    assert re.fullmatch(r"[0-9]{9}|[A-Z]{2}[A-Z0-9]{2,13}", party)


PATTERNS = [
    (identifiers.contract_number, r"[A-Za-z0-9._/-]{1,40}", "contract_format"),
    (identifiers.invoice_number, r"[A-Za-z0-9+_/-]{1,35}", "number_format"),
    (identifiers.document_number, r"[A-Za-z0-9+_/.-]{1,40}", "number_format"),
    (identifiers.user_name, r"[A-Za-z0-9._@-]{1,64}", "user_name_format"),
]


@pytest.mark.parametrize(("check", "pattern", "code"), PATTERNS)
@given(data=st.data())
def test_a_number_of_its_form_stays_as_it_is(
    check: Callable[[str], str], pattern: str, code: str, data: st.DataObject
) -> None:
    """They are opaque: nothing is trimmed, nothing folded."""
    number = data.draw(st.from_regex(pattern, fullmatch=True).filter(str.isascii))
    assert check(number) == number


@pytest.mark.parametrize(("check", "pattern", "code"), PATTERNS)
@pytest.mark.parametrize(
    "written", ["", "x" * 65, "a b", "a\n", "\na", "é", "a\x00", "../../etc/pass wd", "\u202ea", "٣"]
)
def test_a_number_of_another_form_is_refused(
    check: Callable[[str], str], pattern: str, code: str, written: str
) -> None:
    """Including a newline at the end, which `$` would let through."""
    with pytest.raises(Refused) as refused:
        check(written)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("jeanne.doe@Acme.Example", "jeanne.doe@acme.example"),
        ("Jeanne+x@acme.example", "Jeanne+x@acme.example"),
        ("o'neil@a-b.c-d.fr", "o'neil@a-b.c-d.fr"),
        ("a" * 64 + "@b.fr", "a" * 64 + "@b.fr"),
        ("x@xn--ch-fka.example", "x@xn--ch-fka.example"),
    ],
)
def test_a_mail_address_keeps_its_local_part_and_lowers_its_domain(written: str, kept: str) -> None:
    """RFC 5321 2.4: the local part is the receiver's to read."""
    assert identifiers.mail_address(written) == kept


@pytest.mark.parametrize(
    "written",
    [
        "",
        "a",
        "@b.fr",
        "a@",
        "a@b",
        "a@b..fr",
        "a@.fr",
        "a@b.fr.",
        ".a@b.fr",
        "a.@b.fr",
        "a..b@c.fr",
        "a@-b.fr",
        "a@b-.fr",
        "a b@c.fr",
        '"a b"@c.fr',
        "a@b@c.fr",
        "é@b.fr",
        "a@é.fr",
        "a@[127.0.0.1]",
        "a@b.fr\n",
        "a@b.fr\r\nBcc: c@d.fr",
        "a" * 65 + "@b.fr",
        "a@" + "b" * 64 + ".fr",
        "a@" + "b." * 130 + "fr",
        "a@b.f-",
        "a@b.-f",
        "a@127.0.0.1",
        "a@127.0.0.11",
    ],
)
def test_what_smtp_cannot_carry_is_no_address(written: str) -> None:
    """Refused when it is entered, not when the first invoice is due."""
    with pytest.raises(Refused) as refused:
        identifiers.mail_address(written)
    assert refused.value.code == "address_format"


@given(st.text(max_size=300))
def test_an_address_never_holds_a_line_end_or_a_blank(written: str) -> None:
    """It is written into headers and SMTP commands."""
    try:
        address = identifiers.mail_address(written)
    except Refused:
        return
    assert address.isascii()
    assert not re.search(r"[\s\x00-\x20<>\x7f]", address)
