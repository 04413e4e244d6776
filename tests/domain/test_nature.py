"""What a document is worth: decided from its kind and two facts of its day of issue."""

from itertools import product

import pytest

from gateway.domain.nature import decide
from gateway.domain.states import Kind, Nature

INVOICES = [kind for kind in Kind if kind.is_invoice]
OTHERS = [kind for kind in Kind if not kind.is_invoice]
CHANNELS = ["gateway", "platform"]


@pytest.mark.parametrize(("kind", "channel"), list(product(INVOICES, CHANNELS)))
def test_without_a_subscription_it_is_a_duplicate(kind: Kind, channel: str) -> None:
    """DOMAIN rows 2 to 4: whoever has not subscribed gets duplicates, wherever originals would go."""
    decision = decide(kind, False, channel)
    assert decision.nature is Nature.DUPLICATE
    assert "no subscription" in decision.reason


@pytest.mark.parametrize("kind", INVOICES)
def test_subscribed_it_is_an_original_where_originals_go_through_the_gateway(kind: Kind) -> None:
    """What the gateway seals and delivers is the original itself."""
    assert decide(kind, True, "gateway").nature is Nature.ORIGINAL


@pytest.mark.parametrize("kind", INVOICES)
def test_subscribed_it_is_a_copy_where_originals_go_through_a_platform(kind: Kind) -> None:
    """A platform copy is never called an original."""
    decision = decide(kind, True, "platform")
    assert decision.nature is Nature.PLATFORM_COPY
    assert "platform" in decision.reason


@pytest.mark.parametrize(("kind", "subscribed", "channel"), list(product(OTHERS, [True, False], CHANNELS)))
def test_the_other_kinds_have_no_nature(kind: Kind, subscribed: bool, channel: str) -> None:
    """Contracts, amendments, reports and sheets are kept as received."""
    decision = decide(kind, subscribed, channel)
    assert decision.nature is None
    assert kind.replace("_", " ") in decision.reason


@pytest.mark.parametrize("channel", ["", "Gateway", "post"])
def test_an_unknown_channel_is_an_error_and_no_original(channel: str) -> None:
    """A misspelt setting must not make originals of what a platform delivers."""
    with pytest.raises(ValueError, match="channel"):
        decide(Kind.INVOICE, True, channel)


def test_every_reason_fits_its_column() -> None:
    """document.nature_reason has 300 characters."""
    assert all(0 < len(decide(*case).reason) <= 300 for case in product(Kind, [True, False], CHANNELS))
