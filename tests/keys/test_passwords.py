"""Passwords: made strong, kept as argon2id, checked in time that tells nothing, and not too many at once."""

import threading
import time

import pytest

from gateway import clock
from gateway.errors import Refused, Unavailable
from gateway.keys import passwords
from gateway.keys.passwords import Passwords

LONG = "correct-horse-battery"


def test_what_is_made_is_long_easy_to_say_and_never_the_same() -> None:
    """24 of 31 signs that nobody confuses."""
    made = {passwords.make() for _ in range(100)}
    assert len(made) == 100
    for one in made:
        assert len(one.replace("-", "")) == 24
        assert not set(one) & set("0O1lIi")


def test_a_password_is_kept_as_argon2id_with_a_salt_of_its_own() -> None:
    """Two rows with one password do not look alike."""
    one, two = passwords.hashed(LONG), passwords.hashed(LONG)
    assert one.startswith("$argon2id$") and one != two


@pytest.mark.parametrize("password", ["", "x" * 11, "x" * 257])
def test_a_password_has_a_length(password: str) -> None:
    """The one rule; no theatre of composition."""
    with pytest.raises(Refused) as refused:
        passwords.hashed(password)
    assert refused.value.code == "password_length"


def test_the_one_that_matches_is_found_among_several() -> None:
    """The one to come and the one to go."""
    hashes = [passwords.hashed("the-old-one-is-long"), passwords.hashed(LONG)]
    check = Passwords()
    assert check.match(hashes, LONG) == 1
    assert check.match(hashes, LONG + "x") is None
    assert check.match([], LONG) is None
    assert check.match(hashes, "x" * 100_000) is None
    assert check.match(hashes, "\udcff") is None


def test_what_matched_is_remembered_for_an_hour_and_for_that_password_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that logs in for each file costs one argon2 an hour; a guess costs one each."""
    hashes, check = [passwords.hashed(LONG)], Passwords()
    spent: list[str] = []
    real = passwords._matches

    def counted(one: str, password: str) -> bool:
        spent.append(password)
        return real(one, password)

    monkeypatch.setattr(passwords, "_matches", counted)
    for password in (LONG, LONG, LONG + "x", LONG + "x", LONG):
        check.match(hashes, password)
    assert len(spent) == 3
    later = clock.monotonic() + 3601
    monkeypatch.setattr(clock, "monotonic", lambda: later)
    assert check.match(hashes, LONG) == 0
    assert len(spent) == 4
    assert check.match([passwords.hashed("another-long-one")], LONG) is None, "a revoked hash is another hash"


def test_an_unknown_name_takes_as_long_as_a_wrong_password() -> None:
    """Within a factor that nobody measures through a network."""
    hashes, check = [passwords.hashed(LONG)], Passwords()

    def seconds(of: list[str]) -> float:
        began = time.process_time()
        check.match(of, "wrong-and-long-enough")
        return time.process_time() - began

    check.match([], LONG)
    known, unknown = min(seconds(hashes) for _ in range(3)), min(seconds([]) for _ in range(3))
    assert 0.4 < known / unknown < 2.5


def test_more_than_two_at_once_wait_and_in_the_end_are_told_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MB each: a crowd of guessers must not fill memory."""
    monkeypatch.setattr(passwords, "_WAIT_SECONDS", 0.05)
    check, hold, busy = Passwords(), threading.Event(), threading.Semaphore(0)

    def slow(*_: str) -> bool:
        busy.release()
        hold.wait(10)
        return False

    monkeypatch.setattr(passwords, "_matches", slow)
    threads = [threading.Thread(target=check.match, args=(["x"], LONG)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert all(busy.acquire(timeout=5) for _ in threads)
    with pytest.raises(Unavailable):
        check.match(["x"], LONG)
    hold.set()
    for thread in threads:
        thread.join()
