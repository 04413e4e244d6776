"""Every event that the code records has a sentence, and every sentence speaks of facts that are there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway
from gateway.domain.states import DELIVERY_MOVES, DeliveryState
from gateway.dossier.sentences import ADDED, SENTENCES, required, sentence

EVENT = re.compile(r"[a-z_]+\.[a-z_]+")
DELIVERY_WORDS = {state.value for state in DeliveryState} | {
    event for moves in DELIVERY_MOVES.values() for _, event in moves
}


def _calls() -> Iterator[tuple[str, ast.Call, ast.AST]]:
    """Each call of evidence's `record`, and each Fact, with the function around it."""
    for path in sorted(Path(gateway.__file__).parent.rglob("*.py")):
        if path.parent.name == "evidence":
            continue
        tree = ast.parse(path.read_text("utf-8"))
        for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and _name(node) in ("record", "Fact") and len(node.args) >= 2:
                    yield f"{path.name}:{node.lineno}", node, function


def _name(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _events(call: ast.Call, around: ast.AST) -> set[str]:
    """The names that a call may record: a constant, `f"delivery.{…}"`, or a variable set in the same function."""
    argument = call.args[1 if _name(call) == "record" else 0]
    if isinstance(argument, ast.Constant):
        return {str(argument.value)}
    if isinstance(argument, ast.JoinedStr):
        start = argument.values[0]
        assert isinstance(start, ast.Constant)
        assert start.value == "delivery."
        return {f"delivery.{word}" for word in DELIVERY_WORDS}
    texts = {node.value for node in ast.walk(around) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if EVENT.fullmatch(text)}


def _facts(call: ast.Call) -> set[str] | None:
    """The facts that a call gives, when the call itself says all of them."""
    if _name(call) == "record":
        names = [keyword.arg for keyword in call.keywords]
        return None if None in names else {str(name) for name in names}
    if len(call.args) < 4:
        return set()
    given_facts = call.args[3]
    if not isinstance(given_facts, ast.Dict) or None in given_facts.keys:
        return None
    return {str(key.value) for key in given_facts.keys if isinstance(key, ast.Constant)}


def test_the_calls_are_found() -> None:
    """The tests below would pass on nothing."""
    assert len(list(_calls())) > 30


def test_every_event_recorded_anywhere_has_a_sentence() -> None:
    """A life with gaps explains nothing."""
    for place, call, around in _calls():
        events = _events(call, around)
        assert events, f"{place}: cannot tell which event this records"
        assert events <= set(SENTENCES), f"{place}: {sorted(events - set(SENTENCES))}"


def test_a_sentence_needs_no_fact_that_its_record_does_not_hold() -> None:
    """A question mark in an explanation is a misspelt fact."""
    for place, call, around in _calls():
        facts = _facts(call)
        argument = call.args[1 if _name(call) == "record" else 0]
        if facts is None or not isinstance(argument, ast.Constant):
            continue
        for event in _events(call, around):
            missing = required(SENTENCES[event]) - facts - ADDED
            assert not missing, f"{place}: {event} speaks of {sorted(missing)}"


@pytest.mark.parametrize("event", sorted(SENTENCES))
def test_a_sentence_is_one_whatever_facts_are_missing(event: str) -> None:
    """An older record may hold fewer facts: it is still told."""
    text = sentence(event, {})
    assert text[0].isupper() or text[0] == "?"
    assert text.endswith(".")
    assert not set("[]{}|") & set(text)


@given(
    st.dictionaries(st.sampled_from(["reason", "reply", "where", "actor", "phase"]), st.text(max_size=40) | st.none())
)
def test_facts_are_repeated_as_they_are_and_never_taken_for_a_template(facts: dict[str, str | None]) -> None:
    """A relay may answer `{actor}` or `[x]`: that is text."""
    text = sentence("delivery.failed", facts)
    reply = facts.get("reply")
    if reply and not reply.endswith("."):
        assert reply in text


def test_parts_are_left_out_with_their_facts() -> None:
    """`; tried again at ?` would be worse than nothing."""
    assert sentence("delivery.deferred", {"where": "mailbox a@b"}) == "Mailbox a@b could not take it yet."
    assert sentence("delivery.deferred", {"where": "mailbox a@b", "phase": "rcpt", "reply": "450 busy",
                                          "next_attempt": "2026-09-01T10:00:00.000000Z"}) == (
        "Mailbox a@b could not take it yet (at rcpt): 450 busy; tried again at 2026-09-01 10:00:00 UTC."
    )  # fmt: skip
    assert sentence("delivery.attempting", {"where": "x", "number": 1, "maybe_again": False}).endswith("begins.")
    assert sentence("delivery.attempting", {"where": "x", "number": 2, "maybe_again": True}).endswith("arrive twice.")


def test_an_event_of_a_later_release_is_told_by_its_name() -> None:
    """After a step back to an older release the ledger may know more than the table."""
    assert sentence("document.translated_twice", {}) == "Document translated twice."


def test_a_change_of_a_folder_says_what_was_changed_alone() -> None:
    """What the record does not hold was left as it was."""
    said = sentence("folder.changed", {"actor": "tok_1", "layout": "by_contract", "name_template": None})
    assert said == "Tok_1 changed the drop folder's rules; layout by_contract."
