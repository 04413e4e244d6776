"""Replies are read as the RFCs say or called garbage; what they mean is one table."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.states import MAIL_MOVES, DeliveryState
from gateway.mail import reply
from gateway.mail.reply import Garbage, Phase, Reply, Silence, Trouble, take, verdict

BEFORE_MAIL = (Phase.CONNECT, Phase.BANNER, Phase.EHLO, Phase.STARTTLS, Phase.TLS, Phase.AUTH)
ABOUT_A_MESSAGE = (Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.BODY, Phase.DOT)


def read(raw: bytes) -> Reply | None:
    return take(bytearray(raw))


@pytest.mark.parametrize(
    ("raw", "code", "status", "text"),
    [
        (b"250 OK\r\n", 250, "", "OK"),
        (b"250\r\n", 250, "", ""),
        (b"250 \r\n", 250, "", ""),
        (b"451 4.7.1 greylisted\r\n", 451, "4.7.1", "greylisted"),
        (b"550-5.1.1 no such user\r\n550 5.1.1 here\r\n", 550, "5.1.1", "no such user here"),
        (b"550 4.7.1 mixed up\r\n", 550, "", "4.7.1 mixed up"),  # RFC 2034 4
        (b"250-first\r\n250-\r\n250 last\r\n", 250, "", "first last"),
        (b"550 5.7.1\r\n", 550, "5.7.1", ""),
        (b"554 5.7.1 refus\xc3\xa9 \xff\x1b[31m\r\n", 554, "5.7.1", "refusé ??[31m".replace("?", "�", 1)),
    ],
)
def test_a_reply_is_read(raw: bytes, code: int, status: str, text: str) -> None:
    """RFC 5321 4.2, RFC 2034; what is not printable is shown as a question mark, never sent to a terminal."""
    found = read(raw)
    assert found is not None
    assert (found.code, found.status, found.text) == (code, status, text)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"\n",
        b"250 OK\n",
        b"250 O\rK\r\n",
        b"199 what\r\n",
        b"699 what\r\n",
        b"25\r\n",
        b"2500 OK\r\n",
        b"250_OK\r\n",
        b"250-one\r\n550 two\r\n",
        b"250 " + b"x" * 3000 + b"\r\n",
        b"x" * 3000,
        b"250-more\r\n" * 1000,
        b"\xff\xfe\r\n",
    ],
)
def test_what_is_no_reply_is_garbage(raw: bytes) -> None:
    """Another protocol, a line without CR, two codes, a flood: never guessed at."""
    with pytest.raises(Garbage):
        read(raw)


replies = st.lists(st.sampled_from([b"250 a\r\n", b"250-b\r\n250 c\r\n", b"354 d\r\n", b"421 4.0.0 e\r\n"]))


@given(replies, st.data())
def test_how_the_bytes_arrive_does_not_matter(sent: list[bytes], data: st.DataObject) -> None:
    """A network cuts where it likes; pipelined replies come in one piece."""
    stream, buffer, got = b"".join(sent), bytearray(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        buffer += stream[:size]
        stream = stream[size:]
        while (found := take(buffer)) is not None:
            got.append(found)
    assert got == [read(raw) for raw in sent]
    assert not buffer


@given(st.binary(max_size=200) | st.from_regex(rb"[2-5][0-9]{2}[ -][^\n]{0,60}\r\n", fullmatch=True))
def test_hostile_bytes_are_a_reply_garbage_or_not_yet(raw: bytes) -> None:
    """Nothing else comes out, and what comes out is printable and bounded."""
    found: Reply | str | None
    try:
        found = read(raw)
    except Garbage as error:
        found = str(error)
    assert str(found).isprintable()
    assert not isinstance(found, Reply) or 200 <= found.code <= 599


def test_what_is_kept_of_a_reply_is_bounded() -> None:
    """An attempt's row has room for 1,000 characters."""
    found = read(b"".join(b"550-5.7.1 " + b"x" * 500 + b"\r\n" for _ in range(50)) + b"550 5.7.1 end\r\n")
    assert found is not None
    assert len(str(found)) < 1000
    assert len(verdict(Phase.DOT, Reply(299, "2.0.0", ("y" * 5000,))).reply) < 1000
    assert len(str(Silence(Trouble.CUT, "z" * 5000))) < 1000


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Ok: queued as 4XyZ12abc", "4XyZ12abc"),
        ("OK id=1tFqWb-000000001Ab-2Cde", "1tFqWb-000000001Ab-2Cde"),
        ("<a@b> [InternalId=123456789, Hostname=X.PROD] 9 bytes Queued mail for delivery", "123456789"),
        ("4AO7Uexx012345 Message accepted for delivery", "4AO7Uexx012345"),
        ("OK  1732420000 5b1f17b1804b1-4327ac0.12 - gsmtp", "5b1f17b1804b1-4327ac0.12"),
        ("OK", ""),
    ],
)
def test_the_relays_name_for_the_message_is_found(text: str, name: str) -> None:
    """It is what the relay's operator asks for."""
    assert Reply(250, "2.0.0", (text,)).queue_id == name


def test_every_phase_has_its_policy() -> None:
    """A phase without one would end an attempt with an error."""
    assert set(reply.POLICY) == set(Phase) == {*BEFORE_MAIL, *ABOUT_A_MESSAGE}


@pytest.mark.parametrize("phase", Phase)
def test_4yz_is_tried_again(phase: Phase) -> None:
    """RFC 5321 4.2.1, after the final dot too: the relay says that it did not take it."""
    assert verdict(phase, Reply(451, "4.7.1", ("later",))).outcome == "deferred"


@pytest.mark.parametrize("phase", ABOUT_A_MESSAGE)
def test_5yz_about_a_message_is_final(phase: Phase) -> None:
    """The same message will be refused again."""
    assert verdict(phase, Reply(550, "5.1.1", ("unknown",))).outcome == "failed"


@pytest.mark.parametrize("phase", BEFORE_MAIL)
def test_5yz_before_mail_is_the_relays_trouble(phase: Phase) -> None:
    """A banner 554 or a wrong password must not fail every message in the queue."""
    found = verdict(phase, Reply(554, "5.7.0", ("go away",)))
    assert found.outcome == "deferred"
    assert found.of_relay


@pytest.mark.parametrize("code", [530, 538])
def test_a_demand_for_log_in_or_tls_is_the_relays_trouble(code: int) -> None:
    """Our settings are wrong, the message is not."""
    found = verdict(Phase.MAIL, Reply(code, "5.7.0", ("log in first",)))
    assert (found.outcome, found.of_relay) == ("deferred", True)


@pytest.mark.parametrize("trouble", [Trouble.CUT, Trouble.DEADLINE, Trouble.GARBAGE])
@pytest.mark.parametrize("phase", Phase)
def test_silence_is_uncertain_after_the_dot_and_deferred_before(phase: Phase, trouble: Trouble) -> None:
    """Only there the relay may have taken the message."""
    found = verdict(phase, Silence(trouble))
    assert found.outcome == ("uncertain" if phase is Phase.DOT else "deferred")
    assert found.of_relay == (phase in BEFORE_MAIL)


def test_only_2yz_to_the_final_dot_is_accepted() -> None:
    """A 250 anywhere else is an answer to another question."""
    accepted = {
        (phase, code)
        for phase, code in itertools.product(Phase, range(200, 600))
        if verdict(phase, Reply(code, "", ())).outcome == "accepted"
    }
    assert accepted == {(Phase.DOT, code) for code in range(200, 300)}


def test_3yz_after_the_dot_is_uncertain() -> None:
    """The relay says neither yes nor no."""
    assert verdict(Phase.DOT, Reply(354, "", ("go on",))).outcome == "uncertain"


def test_a_message_too_large_for_the_relay_fails_before_it_is_sent() -> None:
    """The relay said so in its EHLO; it will not grow."""
    assert verdict(Phase.MAIL, Silence(Trouble.TOO_LARGE)).outcome == "failed"


def test_every_verdict_is_a_move_of_the_delivery() -> None:
    """The outcome's word is the event of the table of states."""
    answers: tuple[Reply | Silence, ...] = (
        *(Reply(code, "", ()) for code in (250, 354, 421, 450, 530, 550)),
        *map(Silence, Trouble),
    )
    for phase, answer in itertools.product(Phase, answers):
        assert (DeliveryState.ATTEMPTING, verdict(phase, answer).outcome) in MAIL_MOVES
