"""One normaliser: no path, however written, means anything outside the home."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dropfolder import paths
from gateway.errors import Conflict, Denied, Refused


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"", "/"),
        (b"/", "/"),
        (b".", "/"),
        (b"inbox", "/inbox"),
        (b"/inbox/", "/inbox"),
        (b"/inbox//a.pdf", "/inbox/a.pdf"),
        (b"/inbox/./a.pdf", "/inbox/a.pdf"),
        (b"/inbox/../archive", "/archive"),
        (b"/../../etc/passwd", "/etc/passwd"),
        (b"../../../../../..", "/"),
        (b"/inbox/a/../../..", "/"),
        (b"/inbox/..\\..\\x", "/inbox/..\\..\\x"),
        (b"/inbox/%2e%2e/x", "/inbox/%2e%2e/x"),
        ("/inbox/é".encode(), "/inbox/é"),
    ],
)
def test_dots_are_resolved_inside_the_home(raw: bytes, path: str) -> None:
    """There are no links, so text alone decides; at the home, `..` stays."""
    assert paths.normalise(raw) == path


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"/inbox/a\0.pdf", "path_nul"),
        (b"\0", "path_nul"),
        (b"/" + b"x" * 4096, "path_too_long"),
        (b"/" + b"\0" * 10**6, "path_too_long"),
        (b"/inbox/\xff\xfe", "path_encoding"),
        (b"/inbox/\xed\xa0\x80", "path_encoding"),
    ],
)
def test_what_is_no_path_is_refused_before_anything_else(raw: bytes, code: str) -> None:
    """A NUL cuts names in C, a megabyte holds the loop, a lone surrogate cannot be sent back."""
    with pytest.raises(Refused) as refusal:
        paths.normalise(raw)
    assert refusal.value.code == code


def test_the_longest_path_is_taken() -> None:
    """4,096 bytes is the limit, not one less."""
    assert len(paths.normalise(b"/" + b"x" * 4095)) == 4096


@given(st.lists(st.sampled_from(["..", ".", "", "inbox", "archive", "é", " ", "...", "a.pdf"]), max_size=30))
def test_a_normalised_path_has_no_dots_no_empty_parts_and_stays_the_same(parts: list[str]) -> None:
    """Normalising twice changes nothing: no second reading of a path can mean another place."""
    path = paths.normalise("/".join(parts).encode())
    assert path == "/" or not {"", ".", ".."} & set(path.split("/")[1:])
    assert path.startswith("/")
    assert paths.normalise(path.encode()) == path


@given(st.binary(max_size=200))
def test_any_bytes_are_a_path_or_refused(raw: bytes) -> None:
    """Never another exception: it would end the connection, or worse."""
    with contextlib.suppress(Refused):
        assert paths.normalise(raw).startswith("/")


@pytest.mark.parametrize("path", ["/inbox/a.done", "/inbox/done/a.pdf", "/processed/a.pdf", "/a.pdf", "/inbox/.x"])
def test_a_client_may_rename_to_anywhere_in_its_home(path: str) -> None:
    """`.done`, `processed/`, beside the inbox: ERPs do all of these."""
    paths.check_new_file(path)


@pytest.mark.parametrize(
    "path", ["/archive/a.pdf", "/archive", "/archive/2026/01/a.pdf", "/Archive/x", "/inbox", "/INBOX/x", "/manifest/a"]
)
def test_the_gateways_own_places_are_denied(path: str) -> None:
    """Nothing a client does reaches the archive; a twin by case would be taken for the real one."""
    with pytest.raises(Denied):
        paths.check_new_file(path)


def test_a_name_that_publishing_may_want_is_kept_free() -> None:
    """Otherwise the next invoice of that number would meet a client's file under its own name."""
    with pytest.raises(Conflict):
        paths.check_new_file("/inbox/20260131_C_N_ORIG.PDF")
    paths.check_new_file("/inbox/done/20260131_C_N_ORIG.pdf")


@pytest.mark.parametrize("path", ["/inbox/a\nb", "/inbox/\u202egpj.exe", "/inbox/" + "x" * 300, "/inbox/" + "ŉ" * 200])
def test_names_that_a_client_makes_up_have_no_controls_and_an_end(path: str) -> None:
    """They are shown to people and kept in a column; folding may lengthen them."""
    with pytest.raises(Refused):
        paths.check_new_file(path)


@pytest.mark.parametrize("path", ["/x", "/archive/x", "/inbox"])
def test_folders_are_made_under_the_inbox_only(path: str) -> None:
    """Elsewhere they would be mistaken for the gateway's."""
    with pytest.raises(Denied):
        paths.check_new_directory(path)
    paths.check_new_directory("/inbox/done")
