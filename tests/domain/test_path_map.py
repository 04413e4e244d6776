"""A path map is one-to-one, has no loops, and leads nowhere but into the home."""

import contextlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.domain.path_map import OURS, PathMap, checked
from gateway.errors import Refused

PARTS = st.sampled_from(["out", "factures", "in", "inbox", "archive", "a.pdf", "b", "Inbox", "2026", "..", ""])
PATHS = st.lists(PARTS, max_size=4).map(lambda parts: "/" + "/".join(parts))
CLEAN = PATHS.filter(lambda path: path == "/" or not {"", ".."} & set(path.split("/")[1:]))


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/out/factures", "/inbox"),
        ("/out/factures/a.pdf", "/inbox/a.pdf"),
        ("/out/factures/done/a.pdf", "/inbox/done/a.pdf"),
        ("/out/facturesx", "/out/facturesx"),
        ("/out", "/out"),
        ("/old/2026/01/a.pdf", "/archive/2026/01/a.pdf"),
        ("/inbox/a.pdf", "/inbox/a.pdf"),
        ("/", "/"),
    ],
)
def test_what_lies_below_a_path_lies_below_its_place(path: str, place: str) -> None:
    """And nothing else moves."""
    pairs = checked([("/out/factures", "/inbox"), ("/old/", "/archive")])
    assert PathMap(pairs).inside(path) == place


@pytest.mark.parametrize(
    "pairs",
    [
        [("/", "/inbox")],
        [("out", "/inbox")],
        [("/out/../x", "/inbox")],
        [("/out//x", "/inbox")],
        [("/out x", "/inbox")],
        [("/out\n", "/inbox")],
        [("/INBOX/x", "/inbox")],
        [("/archive", "/inbox")],
        [("/out", "/")],
        [("/out", "/out2")],
        [("/out", "/archive/2026")],
        [("/out", "/inbox/../archive")],
        [("/a", "/inbox"), ("/b", "/inbox")],
        [("/a", "/inbox"), ("/A", "/archive")],
        [("/a", "/inbox"), ("/a/b", "/archive")],
        [("/a", "/inbox"), ("/a/b/c", "/archive"), ("/a-b", "/sandbox")],
        [(f"/a{n}", f"/inbox/{n}") for n in range(21)],
        [("/" + "x" * 200, "/inbox")],
    ],
)
def test_what_could_have_two_meanings_is_refused(pairs: list[tuple[str, str]]) -> None:
    """A client that finds another file under an old name has a wrong invoice."""
    with pytest.raises(Refused):
        checked(pairs)


@given(st.lists(st.tuples(PATHS, PATHS), max_size=4), CLEAN)
def test_any_map_that_is_taken_keeps_every_path_in_the_home(pairs: list[tuple[str, str]], path: str) -> None:
    """Mapped once is mapped for good; what is under no old name stays; what is ours stays."""
    good: list[tuple[str, str]] = []
    for pair in pairs:
        with contextlib.suppress(Refused):
            checked([*good, pair])
            good.append(pair)
    taken = PathMap(checked(good))
    place = taken.inside(path)
    assert place.startswith("/")
    assert not {"..", "."} & set(place.split("/"))
    assert taken.inside(place) == place
    if path.split("/")[1] in OURS:
        assert place == path
    assert place == path or place.split("/")[1] in OURS


@given(
    st.dictionaries(
        st.sampled_from(["/out", "/in/new", "/in/old"]), st.sampled_from(["/inbox", "/archive", "/sandbox"])
    ),
    st.sampled_from(["/out", "/in/new", "/in/old", "/x"]),
    st.sampled_from(["/out", "/in/new", "/in/old", "/x"]),
    st.sampled_from(["", "/a.pdf", "/b/a.pdf"]),
    st.sampled_from(["", "/a.pdf", "/b/a.pdf"]),
)
def test_two_old_paths_mean_two_places(pairs: dict[str, str], one: str, two: str, below: str, under: str) -> None:
    """One-to-one: else removing one file would remove another."""
    assume(len(set(pairs.values())) == len(pairs))
    taken = PathMap(checked(pairs.items()))
    assert (taken.inside(one + below) == taken.inside(two + under)) == (one + below == two + under)
