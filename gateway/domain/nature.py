"""What a document is worth to its client: decided once, when it is accepted, and kept with its reason. Pure.

It rests on the day of issue alone: was the contract subscribed, and where did its originals go. Subscribing later
makes no original out of a duplicate; ending a subscription takes none away.
"""

from typing import NamedTuple

from .states import Kind, Nature


class Decision(NamedTuple):
    """A nature and the reason for it, in words that may be shown; None for the kinds without a nature."""

    nature: Nature | None
    reason: str


def decide(kind: Kind, subscription_in_force: bool, original_channel: str) -> Decision:
    """The nature of a document of `kind`.

    `subscription_in_force` and `original_channel` (`gateway` or `platform`; ValueError) are those of its contract
    on its issue date. A platform copy is never called an original: the original is what the platform delivered.
    """
    if original_channel not in ("gateway", "platform"):
        raise ValueError(f"no such channel of originals: {original_channel!r}")
    if not kind.is_invoice:
        return Decision(None, f"a document of the kind {kind.replace('_', ' ')} has no nature: it is kept as received")
    if not subscription_in_force:
        return Decision(Nature.DUPLICATE, "no subscription was in force for the contract on the issue date")
    if original_channel == "platform":
        return Decision(
            Nature.PLATFORM_COPY,
            "the contract was subscribed on the issue date, and its originals went through an approved platform",
        )
    return Decision(
        Nature.ORIGINAL, "the contract was subscribed on the issue date, and its originals went through this gateway"
    )
