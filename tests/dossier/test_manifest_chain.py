"""Offline: what a folder's manifests prove, and that whatever was done to them is said in one sentence."""

import contextlib
import datetime as dt
import hashlib
import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dossier import manifest_chain, month_file
from gateway.dossier.manifest_chain import Proof, Source, gather, months_of, verify
from gateway.dossier.manifest_file import Event
from gateway.dropfolder.monthly_csv import COLUMNS, header
from gateway.errors import Refused
from gateway.evidence import canonical
from gateway.keys import cms
from gateway.keys.load import SigningKey
from gateway.keys.trust import Trust
from tests.keys.authority import YEAR, Authority, p256_key, write_pem

FIRST = dt.date(2026, 11, 1)
AUTHORITY = Authority()
KEY = AUTHORITY.signing_key(p256_key(), "Enerdis")
TRUST = Trust((AUTHORITY.root,))


def signed(content: bytes, name: str, key: SigningKey = KEY, at: dt.datetime = AUTHORITY.now) -> Source:
    return Source(name, content, cms.sign(key, hashlib.sha256(content).digest(), at))


def event(sequence: int, content: bytes = b"", kind: str = "published") -> dict[str, Any]:
    content = content or b"%d" % sequence
    return {
        "sequence": sequence, "event": kind, "at": "2026-11-01T10:00:00.000000Z", "name": f"F{sequence}_ORIG.pdf",
        "sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "number": f"F{sequence}",
    }  # fmt: skip


def days(*counts: int) -> list[dict[str, Any]]:
    """Manifests of days one after the other, each with so many numbers; they are chained by `sources`."""
    found, after = [], 0
    for day, count in enumerate(counts):
        events = [event(after + number) for number in range(1, count + 1)]
        found.append(
            {
                "format": 1, "issuer": "Enerdis", "folder": "fld_1", "day": str(FIRST + dt.timedelta(days=day)),
                "first": after + 1, "last": after + count, "count": count, "events": events, "previous": None,
            }
        )  # fmt: skip
        after += count
    return found


def sources(manifests: list[dict[str, Any]], key: SigningKey = KEY) -> list[Source]:
    """Signed, each naming the one before."""
    found: list[Source] = []
    for one in manifests:
        previous = {}
        if found:
            previous = {"previous": {"name": found[-1].name, "sha256": hashlib.sha256(found[-1].content).hexdigest()}}
        found.append(signed(canonical(one | previous).encode(), f"manifest-{one['day']}.json", key))
    return found


def wrong(proof: Proof) -> list[str]:
    return [f"{one.file}: {one.text}" for one in proof.findings if one.is_wrong]


def test_what_is_whole_is_proven(tmp_path: Path) -> None:
    """Days with numbers and without; who signed, by which root."""
    proof = verify(sources(days(2, 0, 3)), TRUST)
    assert proof.holds and wrong(proof) == []
    (run,) = proof.runs
    assert (run.manifests, run.first, run.last, run.last_day) == (3, 1, 5, "2026-11-03")
    (note,) = proof.findings
    assert "CN=Enerdis" in note.text and "leads to the certificate that was given" in note.text


def test_without_a_certificate_it_says_that_it_shows_who_signed_only_to_who_knows(tmp_path: Path) -> None:
    """The one in the CMS may be anybody's."""
    proof = verify(sources(days(1)), None)
    assert proof.holds and "no certificate was given" in proof.findings[0].text
    assert KEY.certificate_sha256 in proof.findings[0].text


def test_the_issuer_s_own_certificate_is_stricter_than_its_root() -> None:
    """Another customer of the same authority may sign manifests too."""
    other = AUTHORITY.signing_key(p256_key(), "Another")
    assert verify(sources(days(1), other), TRUST).holds
    assert verify(sources(days(1)), Trust((KEY.certificate,))).holds
    assert not verify(sources(days(1), other), Trust((KEY.certificate,))).holds


def test_a_certificate_that_ended_since_proves_what_it_signed_while_it_was_valid() -> None:
    """An auditor comes years later; a signature from after the end is none."""
    key = AUTHORITY.signing_key(p256_key(), starts=-2 * YEAR, ends=-YEAR / 2)
    content = canonical(days(1)[0]).encode()
    assert verify([signed(content, "manifest-2026-11-01.json", key, AUTHORITY.now - YEAR)], TRUST).holds
    (said,) = wrong(verify([signed(content, "manifest-2026-11-01.json", key)], TRUST))
    assert "not trusted" in said


def test_a_stranger_s_root_is_not_trusted() -> None:
    (said,) = wrong(verify(sources(days(1)), Trust((Authority(label="Other").root,))))
    assert "not trusted" in said


Change = Callable[[list[dict[str, Any]]], list[dict[str, Any]] | None]


def _double(found: list[dict[str, Any]]) -> None:
    found[1]["first"], found[1]["count"] = 2, 3
    found[1]["events"].insert(0, event(2))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: [found[0], found[2]], "before it the manifest of 2026-11-02 is missing"),
        (lambda found: [found[0], *days(2, 2, 2, 2, 2)[4:]], "before it the manifests of 2026-11-02 to 2026-11-04 are"),
        (lambda found: [found[0], found[2]], "numbers 3 to 4 are in no manifest here"),
        (lambda found: found[1:], "it follows no other and begins with number 3"),
        (_double, "number 2 stands in manifest-2026-11-01.json too"),
        (lambda found: found[1]["events"].pop(0), "inside it number 4 follows where 3 is missing"),
        (lambda found: found[1]["events"].pop(), "inside it number 4 is missing: its events end there, and it says 4"),
        (lambda found: found[1]["events"].insert(1, event(3)), "inside it number 3 stands there twice"),
        (lambda found: found[1].update(count=9), "it says that it holds 9 numbers, which 3 to 4 are not"),
        (lambda found: found[1].update(format=2), "it is of format 2, and this release knows format 1"),
        (lambda found: found[1].update(day="2026-02-31"), "it has not the form of a manifest: day"),
        (lambda found: found[1]["events"][0].update(name="../x"), "events.0.name"),
        (lambda found: found[1]["events"][0].update(sha256="x"), "events.0.sha256"),
        (lambda found: found[1].update(first="3"), "it has not the form of a manifest: first"),
        (lambda found: found[0].pop("previous"), "it has not the form of a manifest: previous: Field required"),
    ],
)
def test_what_is_wrong_in_signed_manifests_is_said(change: Change, said: str) -> None:
    """The issuer's own fault, or a folder from which files were taken."""
    found = days(2, 2, 2)
    changed = change(found)
    proof = verify(sources(changed if isinstance(changed, list) else found), TRUST)
    assert not proof.holds and any(said in one for one in wrong(proof)), wrong(proof)


def test_a_manifest_that_was_replaced_breaks_the_chain() -> None:
    """Signed with the right key, and not what the next one named."""
    found = sources(days(2, 2, 2))
    other = days(2, 2, 2)[1] | {"previous": json.loads(found[1].content)["previous"], "issuer": "Enerdis SA"}
    found[1] = signed(canonical(other).encode(), found[1].name)
    (said,) = wrong(verify(found, TRUST))
    assert said.startswith("manifest-2026-11-03.json: it names manifest-2026-11-02.json by another SHA-256")
    apart = days(2, 2)
    unchained = [signed(canonical(one).encode(), f"manifest-{one['day']}.json") for one in apart]
    assert "does not name manifest-2026-11-01.json" in wrong(verify(unchained, TRUST))[0]


def test_what_was_before_the_first_is_a_note(tmp_path: Path) -> None:
    """Whoever has November alone can prove November."""
    proof = verify(sources(days(1, 1, 1))[1:], TRUST)
    assert proof.holds and "what was before is not checked" in proof.findings[0].text


def test_folders_are_judged_apart_and_the_same_file_twice_is_one() -> None:
    mine, other = sources(days(1, 1)), sources([one | {"folder": "fld_2"} for one in days(1)])
    proof = verify([*mine, *other, mine[0]], TRUST)
    assert proof.holds and [run.folder for run in proof.runs] == ["fld_1", "fld_2"]
    different = sources([days(1)[0] | {"issuer": "Enerdis SA"}])
    assert "two different manifests" in wrong(verify([mine[0], *different], TRUST))[0]


def test_a_changed_byte_a_missing_signature_and_another_day_s_name_are_said() -> None:
    (one,) = sources(days(1))
    for source, said in (
        (
            Source(one.name, one.content.replace(b"Enerdis", b"enerdis"), one.signature),
            "was changed after it was signed",
        ),
        (Source(one.name, one.content, None), "manifest-2026-11-01.json.p7s is not beside it"),
        (Source(one.name, b"", one.signature), "the file is empty"),
        (Source("manifest-2026-11-02.json", one.content, one.signature), "under another day's name"),
    ):
        (text,) = wrong(verify([source], TRUST))
        assert said in text
    assert not verify([], TRUST).holds


@lru_cache
def _good() -> Source:
    return sources(days(3))[0]


@given(st.data())
def test_no_bytes_make_a_traceback_and_no_changed_byte_is_believed(data: st.DataObject) -> None:
    """Hostile JSON under a good signature of its author, and hostile signatures over good JSON."""
    good = _good()
    assert good.signature is not None
    kind = data.draw(st.sampled_from(["json", "text", "cms", "flip", "cut"]))
    if kind == "json":
        values = st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        )
        value = json.loads(good.content)
        place = data.draw(st.sampled_from([value, *value["events"]]))
        place[data.draw(st.sampled_from(sorted(place)))] = data.draw(values)
        source = signed(json.dumps(value).encode(), good.name)
        verify([source], TRUST)
        return
    if kind == "text":
        content = data.draw(st.binary() | st.text(st.characters(codec="utf-8")).map(str.encode))
        source = signed(content, good.name)
    elif kind == "cms":
        source = Source(good.name, good.content, data.draw(st.binary()))
    else:
        is_content = data.draw(st.booleans())
        old = good.content if is_content else good.signature
        at = data.draw(st.integers(0, len(old) - 1))
        new = old[:at] + (b"" if kind == "cut" else bytes([old[at] ^ data.draw(st.integers(1, 255))]) + old[at + 1 :])
        source = Source(good.name, new, good.signature) if is_content else Source(good.name, good.content, new)
    proof = verify([source], TRUST)
    assert not proof.holds and len(wrong(proof)) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"format":' + b"9" * 10_000 + b"}",
        b'{"format":1,"format":1}',
        b'{"format":NaN}',
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b'{"format":1e400}',
        b"null",
        b'"\\ud800"',
        b'{"events":[' + b"1," * 100_000 + b"1]}",
    ],
)
def test_json_that_is_made_to_hurt_is_a_sentence(content: bytes) -> None:
    """Depth, numbers without end, members twice, half characters."""
    (said,) = wrong(verify([signed(content, "manifest-2026-11-01.json")], TRUST))
    assert "cannot be read as JSON" in said or "has not the form" in said
    assert len(said) < 400


def _write(folder: Path, found: list[Source]) -> Path:
    folder.mkdir()
    for one in found:
        (folder / one.name).write_bytes(one.content)
        if one.signature is not None:
            (folder / f"{one.name}.p7s").write_bytes(one.signature)
    return folder


def test_files_and_directories_are_read_as_they_were_pulled(tmp_path: Path) -> None:
    """What lies beside the manifests is not theirs."""
    folder = _write(tmp_path / "manifest", sources(days(1, 2)))
    (folder / "notes.json").write_text("{}")
    assert verify(gather([folder]), TRUST).runs[0].last == 3
    assert verify(gather([folder / "manifest-2026-11-01.json"]), TRUST).runs[0].last == 1
    os.mkfifo(folder / "manifest-2026-11-03.json")
    with pytest.raises(Refused):
        verify(gather([folder]), TRUST)
    with pytest.raises(Refused):
        list(gather([tmp_path / "nothing"]))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _write(tmp_path / "manifest", sources(days(1)))
    monkeypatch.setattr(manifest_chain, "MAX_BYTES", 10)
    with pytest.raises(Refused):
        list(gather([folder]))


def test_each_document_on_disk_is_what_was_published(tmp_path: Path) -> None:
    """At any depth; one changed, one missing, one withdrawn, one that nobody knows."""
    found = days(4)
    found[0]["events"].append(event(5, b"3", "withdrawn") | {"name": "F3_ORIG.pdf"})
    found[0].update(last=5, count=5)
    documents = tmp_path / "documents"
    (documents / "2026" / "11").mkdir(parents=True)
    (documents / "2026" / "11" / "F1_ORIG.pdf").write_bytes(b"1")
    (documents / "F2_ORIG.pdf").write_bytes(b"another")
    (documents / "unknown.pdf").write_bytes(b"x")
    os.mkfifo(documents / "F4_ORIG.pdf.pipe")
    proof = verify(sources(found), TRUST, documents)
    assert proof.documents == 1 and not proof.holds
    assert [one.split(":")[0] for one in wrong(proof)] == ["F2_ORIG.pdf", "F4_ORIG.pdf"]
    assert any("1 files there are in no manifest" in one.text for one in proof.findings)
    (documents / "F2_ORIG.pdf").write_bytes(b"2")
    (documents / "F4_ORIG.pdf").write_bytes(b"4")
    assert verify(sources(found), TRUST, documents).holds
    with pytest.raises(Refused):
        verify(sources(found), TRUST, tmp_path / "nothing")


def test_a_folder_that_says_something_else_than_its_manifests_is_found() -> None:
    """A row that was changed, one that went, and those that no manifest has yet."""
    found = sources(days(3))
    events = [Event.model_validate(event(number)) for number in (1, 2, 3)]
    assert verify(found, TRUST, published=events).holds
    proof = verify(found, TRUST, published=[*events, Event.model_validate(event(4))])
    assert proof.holds and proof.findings[-1].text.startswith("1 numbers since")
    changed = [events[0], Event.model_validate(event(2, b"other"))]
    assert [one.split(":")[0] for one in wrong(verify(found, TRUST, published=changed))] == [
        "F2_ORIG.pdf", "F3_ORIG.pdf"
    ]  # fmt: skip


def _month(*rows: dict[str, Any]) -> str:
    lines = [",".join(COLUMNS)]
    for one in rows:
        place = f"invoice,{one['number']},{one['name']},archive/2026/11/{one['name']},pdf"
        lines.append(f"{one['sequence']},{one['event']},{one['at']},{place},{one['size']},{one['sha256']}")
    return "".join(f"{line}\r\n" for line in lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_month(event(1), event(2), event(3)), None),
        (_month(event(2), event(3), event(4), event(5)), None),
        (_month(), None),
        (_month(event(1), event(3)), "number 3 follows number 1"),
        (_month(event(1), event(2, b"other")), "number 2 is another there than in its signed manifest"),
        (_month(event(1, kind="withdrawn")), "number 1 is another there"),
        (_month(event(1))[:-20], "it cannot be read"),
        ("sequence,name\r\n1,a\r\n", "its first line is not"),
        ("", "its first line is not"),
        (_month() + "1,2\r\n", "it cannot be read as a monthly list: line 2"),
        (_month() + "x" * 200_000, "it cannot be read as a monthly list"),
        (_month() + "\0" + "," * 9, "it cannot be read as a monthly list"),
        (_month() + "9" * 5000 + "," * 9 + "\r\n", "it cannot be read as a monthly list"),
    ],
)
def test_monthly_lists_must_say_what_the_manifests_do(tmp_path: Path, text: str, said: str | None) -> None:
    """They are what programs read, and nobody signs them."""
    folder = _write(tmp_path / "manifest", sources(days(3)))
    (folder / "index-2026-11.csv").write_text(text, newline="")
    proof = verify(gather([folder]), TRUST, months=months_of([folder]))
    assert proof.holds == (said is None)
    assert said is None or said in wrong(proof)[0], wrong(proof)
    assert any("2 numbers there are in no manifest yet" in one.text for one in proof.findings) == (
        "5,published" in text
    )


@given(st.binary(max_size=300))
def test_a_monthly_list_of_any_bytes_is_a_sentence_at_most(content: bytes) -> None:
    for hostile in (content, header() + content):
        with contextlib.suppress(Refused):
            list(month_file.read(hostile))


def test_a_root_is_read_from_pem(tmp_path: Path) -> None:
    """As `--ca` gives it."""
    path = write_pem(tmp_path / "root.pem", AUTHORITY.root)
    assert verify(sources(days(1)), Trust.load((path,))).holds
