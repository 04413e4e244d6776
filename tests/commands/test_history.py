"""`gateway import history`: a directory or a list, as an administrator finds them on the server before."""

import contextlib
import datetime as dt
import hashlib
import json
import os
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.commands import history, history_files
from gateway.commands.lists import Row
from gateway.commands.reach import Api
from gateway.errors import Refused, Unavailable
from tests.test_cli import Gateway, gateway, settings_file

__all__ = ["gateway", "settings_file"]
PARIS = ZoneInfo("Europe/Paris")


@pytest.fixture
def acme(gateway: Gateway) -> Gateway:
    """A client that logs in as acme, and an account of the billing system."""
    assert gateway("client", "add", "Acme", "--user", "acme")[0] == 0
    assert gateway("client", "add", "Billing", "--intake", "--user", "billing")[0] == 0
    return gateway


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A server's directory, with what such directories hold."""
    made = tmp_path / "sftp"
    files = {"acme/out/a.pdf": b"one", "acme/out/2024/b.pdf": b"two", "acme/.ssh/authorized_keys": b"key",
             "nobody/c.pdf": b"three", "billing/d.pdf": b"four"}  # fmt: skip
    for place, content in files.items():
        path = made / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (0, dt.datetime(2024, 4, 2, tzinfo=PARIS).timestamp()))
    return made


def _import(gateway: Gateway, *words: Any) -> tuple[int, list[dict[str, Any]]]:
    code, out, err = gateway("import", "history", *words, "--json")
    assert out, err
    return code, json.loads(out)


def _outcomes(reports: list[dict[str, Any]]) -> dict[str, str]:
    return {report["file"]: report["outcome"] for report in reports}


def test_a_directory_is_rehearsed_imported_and_imported_again(acme: Gateway, old: Path) -> None:
    """Each file has its outcome; what a script must see is exit status 1; again, all of it is there."""
    wanted = {
        "acme/.ssh": "skipped", "acme/out/a.pdf": "created", "acme/out/2024/b.pdf": "created",
        "billing/d.pdf": "refused", "nobody/c.pdf": "refused",
    }  # fmt: skip
    code, dry = _import(acme, old, "--dry-run")
    assert (code, _outcomes(dry)) == (1, wanted)
    assert _import(acme, old) == (1, dry)
    code, again = _import(acme, old)
    assert _outcomes(again) == {file: word.replace("created", "same") for file, word in wanted.items()}
    assert {one["file"]: one["place"] for one in again if one["place"]} == {
        "acme/out/a.pdf": "archive/2024/04/a.pdf", "acme/out/2024/b.pdf": "archive/2024/04/b.pdf"
    }  # fmt: skip
    code, out, _ = acme("import", "history", old, "--dry-run")
    assert code == 1
    assert "2 refused, 2 same, 1 skipped" in out
    assert "no client has this log-in name" in out
    assert "a dry run" in out


def test_exit_status_0_when_everything_was_taken(acme: Gateway, tmp_path: Path) -> None:
    """Hidden files are no failure."""
    (tmp_path / "in/acme").mkdir(parents=True)
    (tmp_path / "in/acme/a.pdf").write_bytes(b"one")
    (tmp_path / "in/acme/.bashrc").write_bytes(b"")
    assert _import(acme, tmp_path / "in")[0] == 0


def _may_list(directory: Path) -> bool:
    try:
        os.listdir(directory)
    except PermissionError:
        return False
    return True


def test_what_is_no_plain_file_has_an_answer(acme: Gateway, tmp_path: Path) -> None:
    """Links would lead out of the directory, a pipe would be waited for, and a name may be in no encoding."""
    made = tmp_path / "in"
    (made / "acme/deep").mkdir(parents=True)
    (made / "loose.pdf").write_bytes(b"x")
    (made / "acme/link").symlink_to("/etc/passwd")
    (made / "acme/away").symlink_to("/etc")
    (made / "linked").symlink_to("acme")
    os.mkfifo(made / "acme/pipe")
    Path(os.fsdecode(os.fsencode(made / "acme") + b"/caf\xe9.pdf")).write_bytes(b"x")
    (made / "acme/a\nb").write_bytes(b"x")
    (made / "no body").mkdir()
    (made / "no body/a.pdf").write_bytes(b"x")
    closed = made / "acme/closed"
    closed.mkdir(mode=0o000)
    deep = made / "acme/deep"
    for _ in range(40):
        deep = deep / "d"
        deep.mkdir()
    (deep / "a.pdf").write_bytes(b"x")
    found_open = _may_list(closed)  # a user who may read everything
    try:
        code, found = _import(acme, made)
    finally:
        closed.chmod(0o700)
    assert (code, {one["outcome"] for one in found}) == (1, {"refused"})
    said = {one["file"].rpartition("/")[2]: one["reason"] for one in found}
    wanted = {"loose.pdf": "no client's directory", "link": "a link", "away": "a link", "linked": "a link",
              "pipe": "not a regular file", "caf\udce9.pdf": "not UTF-8", "a\nb": "control characters",
              "a.pdf": "no client can have", "d": "deeper than"}  # fmt: skip
    if not found_open:
        wanted["closed"] = "Permission denied"
    for name, words in wanted.items():
        assert words in said[name], said
    code, out, _ = acme("import", "history", made)
    assert (code, "caf\\udce9.pdf" in out) == (1, True)


def test_a_list_says_names_dates_and_digests(acme: Gateway, old: Path) -> None:
    """For what a directory cannot say: mtimes that were lost, two files of one name, bytes to be held against."""
    (old / "acme/out/b.pdf").write_bytes(b"another b")
    digest = hashlib.sha256(b"one").hexdigest()
    file = old / "list.csv"
    file.write_text(
        "user_name;file;name;date;sha256\n"
        f"acme;acme/out/a.pdf;;2023-01-31;{digest.upper()}\n"
        "acme;acme/out/2024/b.pdf;;2023-02-01T00:30:00;\n"
        "acme;acme/out/b.pdf;;2023-02-28;\n"
        "acme;acme/out/b.pdf;b-2.pdf;2023-02-28;\n"
        f"acme;acme/out/2024/b.pdf;other.pdf;;{digest}\n"
        "acme;acme/out/none.pdf;;;\n"
        "acme;../etc/passwd;;;\n"
        "acme;/etc/passwd;;;\n"
        "acme;acme/out/a.pdf;;31.01.2023;\n"
        "acme;acme/out/a.pdf;;9999-12-31;\n"
        "acme;;;;\n"
        "acme;acme\n"
    )
    code, dry = _import(acme, file, "--dry-run")
    assert code == 1
    assert [(one["line"], one["outcome"], one["column"], one["place"]) for one in dry] == [
        (2, "created", "", "archive/2023/01/a.pdf"),
        (3, "created", "", "archive/2023/02/b.pdf"),
        (4, "differs", "name", "archive/2023/02/b.pdf"),
        (5, "created", "", "archive/2023/02/b-2.pdf"),
        (6, "refused", "sha256", ""),
        (7, "refused", "file", ""),
        (8, "refused", "file", ""),
        (9, "refused", "file", ""),
        (10, "refused", "date", ""),
        (11, "refused", "date", ""),
        (12, "refused", "file", ""),
        (13, "refused", "", ""),
    ]
    assert _import(acme, file) == (1, dry)


def test_a_dry_run_knows_the_parts_before(acme: Gateway, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files of one name and month, far from each other, meet in the import: so they do here."""
    (old / "acme/out/other").mkdir()
    for place in ("acme/out/other/a.pdf", "acme/out/other/b.pdf"):
        (old / place).write_bytes(b"one")
        os.utime(old / place, (0, dt.datetime(2024, 4, 3, tzinfo=PARIS).timestamp()))
    monkeypatch.setattr(history, "_AT_ONCE", 1)
    _, dry = _import(acme, old, "--dry-run")
    assert [_outcomes(dry)[f"acme/out/other/{name}"] for name in ("a.pdf", "b.pdf")] == ["same", "differs"]
    _, done = _import(acme, old)
    assert _outcomes(done) == _outcomes(dry)


def test_an_import_that_was_stopped_is_started_again(acme: Gateway, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between bytes and row, and between two parts: what is done is done, the rest follows."""
    whole, asked = Api.put, []

    async def stopped(self: Api, path: str, body: Any) -> Any:
        asked.append(body["dry_run"])
        if asked.count(False) == 2:
            raise Unavailable("the gateway does not answer")
        return await whole(self, path, body)

    monkeypatch.setattr(history, "_AT_ONCE", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Api, "put", stopped)
        code, _, err = acme("import", "history", old)
        assert (code, "does not answer" in err) == (1, True)
    _, found = _import(acme, old)
    assert sorted(_outcomes(found).values()) == ["created", "refused", "refused", "same", "skipped"]


def test_an_import_is_taken_back_by_its_directory(acme: Gateway, old: Path) -> None:
    """With a reason, dry first; again, there is nothing left to take."""
    _import(acme, old)
    words = ("import", "withdraw-history", old, "--json", "--reason")
    code, out, err = acme(*words, "wrong client", "--dry-run")
    assert (code, sorted(_outcomes(json.loads(out)).values())) == (
        1, ["refused", "refused", "skipped", "withdrawn", "withdrawn"]
    ), err  # fmt: skip
    assert acme(*words, "wrong client")[1] == out
    assert "missing" in _outcomes(json.loads(acme(*words, "wrong client")[1])).values()
    code, _, err = acme(*words, " ")
    assert (code, "says why" in err) == (1, True)
    assert _outcomes(_import(acme, old)[1])["acme/out/a.pdf"] == "created"


def test_a_file_that_changes_while_it_is_read_is_not_taken(
    acme: Gateway, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest that was rehearsed is that of the row, or there is none."""
    ask = history._ask  # the moment between the digest and the sending

    async def later(*args: Any, **options: Any) -> None:
        await ask(*args, **options)
        (old / "acme/out/a.pdf").write_bytes(b"ONE")
        (old / "acme/out/2024/b.pdf").write_bytes(b"longer")

    with monkeypatch.context() as patch:
        patch.setattr(history, "_ask", later)
        _, found = _import(acme, old)
    assert [one["outcome"] for one in found if "changed while" in one["reason"]] == ["refused"] * 2


def test_a_file_larger_than_a_request_is_refused_before_it_is_sent(
    acme: Gateway, old: Path, settings_file: Path
) -> None:
    """With the setting that would let it in."""
    text = settings_file.read_text()
    assert "[http]" in text
    settings_file.write_text(text.replace("[http]", "[http]\nmax_upload_megabytes = 1"))
    (old / "acme/large.zip").write_bytes(b"x" * 1_000_000)
    _, found = _import(acme, old)
    (large,) = [one for one in found if one["file"] == "acme/large.zip"]
    assert (large["outcome"], "max_upload_megabytes" in large["reason"]) == ("refused", True)


@pytest.mark.parametrize("name", ["none", "none.csv"])
def test_what_does_not_exist_is_said_so(acme: Gateway, tmp_path: Path, name: str) -> None:
    code, _, err = acme("import", "history", tmp_path / name)
    assert (code, "No such file" in err) == (1, True)


def test_too_many_files_are_refused_before_anything_is_done(
    acme: Gateway, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine's whole disk, named by mistake."""
    monkeypatch.setattr(history_files, "MAX_FILES", 2)
    code, _, err = acme("import", "history", old)
    assert (code, "in parts" in err) == (1, True)


CELLS = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    ["acme", "a.pdf", "./a.pdf", "..", "/", "2024-01-31", "2024-13-01", "0001-01-01", "9999-12-31T23:59:59-23:59", "\0"]
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.lists(CELLS, min_size=1, max_size=6), max_size=6), st.binary(max_size=200))
@example([["acme", "a.pdf", "", "0001-01-01T00:00:00+23:59", ""]], b"user_name,file\nacme,\x00\n")
def test_whatever_a_list_holds_is_answered_in_sentences(tmp_path: Path, rows: list[list[str]], raw: bytes) -> None:
    """Bytes or cells: Refused as a whole, or a report for each line, or a file that is there."""
    (tmp_path / "a.pdf").write_bytes(b"x")
    file = tmp_path / "list.csv"
    file.write_bytes(raw)
    with contextlib.suppress(Refused):
        history_files.listed(file, PARIS)
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number, cells in enumerate(rows, 2):
            named = dict(zip(history_files.COLUMNS, cells, strict=False))
            found = history_files._of_row(Row(number, named), PARIS)  # a cell with any character
            if found.report is None:
                history_files.measure(root, found)
            assert found.report is not None or isinstance(found.mtime, int)
            assert found.report is None or found.report["reason"]
    finally:
        os.close(root)
