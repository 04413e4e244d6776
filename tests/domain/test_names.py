"""Names that every ERP, file system and shell can hold."""

import datetime as dt
import re
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.domain import names
from gateway.domain.states import Nature
from gateway.errors import Refused

DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{d}{n}" for d in ("COM", "LPT") for n in range(10))}
dates = st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31))
texts = st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9+_/.-]{1,40}", fullmatch=True)
codes = st.sampled_from(["ORIG", "COPY", "DATA"])
counters = st.integers(1, 10**9)
extensions = st.sampled_from(["pdf", "xml"])
entry_names = st.builds(names.entry_name, dates, texts, texts, codes, counters, extensions)


def test_a_name_shows_date_contract_number_and_nature() -> None:
    """The documented grammar: an ERP takes it apart at the underscores."""
    name = names.entry_name(dt.date(2026, 1, 31), "CARD-S/0042", "FA_2026+1", "ORIG", 1, "pdf")
    assert name == "20260131_CARD-S-0042_FA-2026-1_ORIG.pdf"


def test_k_follows_the_nature_from_2_on() -> None:
    """`C/1` and `C_1` collide: the second is told apart, the first keeps its plain name."""
    assert names.entry_name(dt.date(2026, 1, 31), "C_1", "N", "COPY", 2, "pdf") == "20260131_C-1_N_COPY-2.pdf"


@given(entry_names)
def test_a_name_has_only_safe_characters_and_at_most_100(name: str) -> None:
    """Whatever the identifiers hold: odd characters, controls, nothing at all."""
    assert re.fullmatch(r"[0-9]{8}_[A-Za-z0-9.-]+_[A-Za-z0-9.-]+_(ORIG|COPY|DATA)(-[0-9]+)?\.(pdf|xml)", name)
    assert len(name) <= names.MAX_LENGTH


@given(entry_names)
def test_a_name_is_no_device_no_option_and_not_hidden(name: str) -> None:
    """`CON.pdf` cannot be written on Windows, `-rf` is an option, `.x` is not seen."""
    assert name.partition(".")[0].upper() not in DEVICES
    assert name[0] not in ".-"
    assert not name.endswith((".", " "))


@given(dates, texts, texts, codes, st.sets(counters, min_size=2, max_size=2), extensions)
def test_k_tells_names_apart_however_long_they_are(
    date: dt.date, contract: str, number: str, code: str, ks: set[int], ext: str
) -> None:
    """A cut must never take the counter with it, or publishing would look for a free name for ever."""
    assert len({names.fold(names.entry_name(date, contract, number, code, k, ext)) for k in ks}) == 2


@given(dates, dates, texts)
def test_alphabetical_is_chronological(one: dt.date, other: dt.date, text: str) -> None:
    """SAP PI processes files in the order of their names."""
    assume(one != other)
    first, second = (names.entry_name(d, text, "N", "ORIG", 1, "pdf") for d in sorted((one, other)))
    assert first < second


@given(st.from_regex(r"[A-Za-z0-9.-]{1,40}", fullmatch=True))
def test_a_number_as_the_rules_allow_it_is_never_cut(number: str) -> None:
    """It tells documents apart; a contract of full length gives way."""
    assert f"_{number}_" in names.entry_name(dt.date(2026, 1, 1), "c" * 40, number, "ORIG", 12, "pdf")


@given(st.text(max_size=40))
def test_case_and_composition_make_no_difference_to_fold(name: str) -> None:
    """A Windows or macOS client would overwrite one file with the other."""
    for form in ("NFC", "NFD"):
        assert names.fold(unicodedata.normalize(form, name)) == names.fold(name)
    assert names.fold(names.fold(name)) == names.fold(name)
    if name.isascii():
        assert names.fold(name.upper()) == names.fold(name.lower())


def test_fold_keeps_different_ascii_names_apart() -> None:
    """Only case goes: `C-1` and `C.1` are two names."""
    assert names.fold("C-1") != names.fold("C.1")
    assert names.fold("ORIG.PDF") == names.fold("orig.pdf")


def test_the_code_says_original_copy_or_data() -> None:
    """A platform copy is never called an original; extracted XML is data, whatever it came from."""
    assert names.nature_code(Nature.ORIGINAL, "pdf") == "ORIG"
    assert names.nature_code(Nature.PLATFORM_COPY, "pdf") == "COPY"
    assert names.nature_code(Nature.PLATFORM_COPY, "xml") == "DATA"


def test_a_duplicate_has_no_name() -> None:
    """It is served by API and portal only."""
    with pytest.raises(ValueError, match="duplicate"):
        names.nature_code(Nature.DUPLICATE, "pdf")


@given(entry_names)
def test_every_published_name_is_known_by_its_form(name: str) -> None:
    """A client's rename must never take a name that publishing could want later."""
    assert names.is_published_form(name)
    assert names.is_published_form(name.lower())


@pytest.mark.parametrize(
    "name", ["a.pdf", "20260131_C_N_ORIG.pdf.done", "20260131_C_N_ORIG-old.pdf", "x20260131_C_N_ORIG.pdf"]
)
def test_names_that_clients_rename_to_are_not_of_that_form(name: str) -> None:
    """`.done`, a prefix, a suffix: all free."""
    assert not names.is_published_form(name)


@st.composite
def templates(draw: st.DrawFn) -> str:
    """Templates that are allowed: the fields in any order, with anything allowed around them."""
    fields = draw(st.permutations(["{number}", "{nature}", *draw(st.sampled_from([[], ["{date}"], ["{contract}"]]))]))
    first = draw(st.sampled_from("abcXYZ019"))
    return first + "".join(draw(st.text("abcXYZ019_-", max_size=8)) + field for field in fields)


@given(templates(), dates, texts, texts, codes, counters, extensions)
def test_names_of_any_template_are_names_that_every_system_holds(
    template: str, date: dt.date, contract: str, number: str, code: str, k: int, ext: str
) -> None:
    """Not hidden, no option, no device of Windows, at most 100 characters; the ending stays."""
    names.check_template(template)
    name = names.entry_name(date, contract, number, code, k, ext, template)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*\.(pdf|xml)", name) and len(name) <= 100
    assert name.split(".")[0].upper() not in DEVICES
    assert code in name and (k == 1 or name.endswith(f"-{k}.{ext}"))


def test_a_template_puts_the_fields_in_its_own_order() -> None:
    made = names.entry_name(dt.date(2026, 1, 31), "C/1", "F.1", "ORIG", 2, "pdf", "F_{number}_{date}_{nature}")
    assert made == "F_F-1_20260131_ORIG-2.pdf"


@pytest.mark.parametrize(
    "template",
    [
        "{date}_{number}", "{date}_{nature}", "", "{number}_{nature}", "-{number}_{nature}", "_{number}{nature}",
        "a/{number}_{nature}", "../{number}_{nature}", "a.{number}_{nature}", "é{number}_{nature}",
        "{date}_{nature} {number}",
        "{date}_{number}_{nature}_{number}", "{date}_{name}_{number}_{nature}", "{date:x}_{number}_{nature}",
        "{date}\n{number}{nature}",
        "a" * 41 + "{number}{nature}",
    ],
)  # fmt: skip
def test_a_template_that_could_make_a_bad_or_an_ambiguous_name_is_refused(template: str) -> None:
    """With what is wrong; a document must be told apart by its name."""
    with pytest.raises(Refused) as refused:
        names.check_template(template)
    assert refused.value.code == "name_template"


@given(texts)
def test_a_contract_s_folder_is_a_name_that_every_system_holds(contract: str) -> None:
    """Neither `..` nor a device; none without a contract."""
    name = names.directory_name(contract)
    assert re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9-]*)?", name) and len(name) <= 61
    assert name.upper() not in DEVICES and bool(name) == bool(contract)
