"""Every word of state and the one table of moves for each; only `advance` decides a move.

An odd row carries its story. A move that is not in the table raises Conflict and changes nothing.
"""

import enum

from ..errors import Conflict


class Kind(enum.StrEnum):
    """What a document is. The last four need a sidecar, have no nature and are never sealed."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit_note"
    CORRECTED_INVOICE = "corrected_invoice"
    CONTRACT = "contract"
    AMENDMENT = "amendment"
    CONTINUITY_REPORT = "continuity_report"
    MANAGEMENT_SHEET = "management_sheet"

    @property
    def is_invoice(self) -> bool:
        """Of the kinds with a nature: invoice, credit note, corrected invoice."""
        return self in (Kind.INVOICE, Kind.CREDIT_NOTE, Kind.CORRECTED_INVOICE)


class Nature(enum.StrEnum):
    """What a document is worth (DOMAIN: original, copie d'un original de plateforme, duplicata)."""

    ORIGINAL = "original"
    PLATFORM_COPY = "platform_copy"
    DUPLICATE = "duplicate"


class Channel(enum.StrEnum):
    """The way to a destination."""

    EMAIL = "email"
    FOLDER = "folder"


class DocumentState(enum.StrEnum):
    """`received` is final for duplicates and the kinds without nature: there is nothing to seal."""

    RECEIVED = "received"
    QUARANTINED = "quarantined"
    SEALED = "sealed"
    WAITING = "waiting"  # no key, no time-stamp authority; document.state_reason says which
    WITHDRAWN = "withdrawn"


DOCUMENT_MOVES = {
    (DocumentState.QUARANTINED, "accepted"): DocumentState.RECEIVED,
    (DocumentState.QUARANTINED, "rejected"): DocumentState.WITHDRAWN,
    (DocumentState.QUARANTINED, "replaced"): DocumentState.WITHDRAWN,  # its seal did not verify; version 2 came
    (DocumentState.RECEIVED, "sealed"): DocumentState.SEALED,
    (DocumentState.RECEIVED, "blocked"): DocumentState.WAITING,
    (DocumentState.RECEIVED, "quarantined"): DocumentState.QUARANTINED,  # its worker died, or its seal did not verify
    (DocumentState.RECEIVED, "replaced"): DocumentState.WITHDRAWN,
    (DocumentState.RECEIVED, "withdrawn"): DocumentState.WITHDRAWN,
    (DocumentState.WAITING, "blocked"): DocumentState.WAITING,
    (DocumentState.WAITING, "sealed"): DocumentState.SEALED,
    (DocumentState.WAITING, "quarantined"): DocumentState.QUARANTINED,
    (DocumentState.WAITING, "replaced"): DocumentState.WITHDRAWN,
    (DocumentState.SEALED, "replaced"): DocumentState.WITHDRAWN,  # only while nothing of it was published or sent
    (DocumentState.WAITING, "withdrawn"): DocumentState.WITHDRAWN,
    (DocumentState.SEALED, "withdrawn"): DocumentState.WITHDRAWN,  # wrong recipient: bytes and facts stay
}


class DeliveryState(enum.StrEnum):
    """Mail: planned … cancelled. Folder: planned, held, published, received, expired_unread, withdrawn."""

    PLANNED = "planned"
    HELD = "held"
    ATTEMPTING = "attempting"
    DEFERRED = "deferred"
    UNCERTAIN = "uncertain"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PUBLISHED = "published"
    RECEIVED = "received"
    EXPIRED_UNREAD = "expired_unread"
    WITHDRAWN = "withdrawn"


_D = DeliveryState
MAIL_MOVES = {
    (_D.PLANNED, "claimed"): _D.ATTEMPTING,
    (_D.PLANNED, "held"): _D.HELD,
    (_D.PLANNED, "cancelled"): _D.CANCELLED,
    (_D.HELD, "released"): _D.PLANNED,
    (_D.HELD, "cancelled"): _D.CANCELLED,
    (_D.ATTEMPTING, "accepted"): _D.ACCEPTED,
    (_D.ATTEMPTING, "deferred"): _D.DEFERRED,  # the worker itself ended it before the final dot: it knows better
    (_D.ATTEMPTING, "uncertain"): _D.UNCERTAIN,  # the connection ended after the final dot
    (_D.ATTEMPTING, "lease_expired"): _D.UNCERTAIN,  # the worker died: nobody knows whether the dot was sent
    (_D.ATTEMPTING, "failed"): _D.FAILED,
    (_D.ATTEMPTING, "held"): _D.HELD,  # it cannot be composed: too large, no key, a blob is missing
    (_D.DEFERRED, "claimed"): _D.ATTEMPTING,
    (_D.DEFERRED, "failed"): _D.FAILED,
    (_D.DEFERRED, "held"): _D.HELD,
    (_D.DEFERRED, "cancelled"): _D.CANCELLED,
    (_D.UNCERTAIN, "claimed"): _D.ATTEMPTING,  # with the same bytes and Message-ID, marked as a possible repeat
    (_D.UNCERTAIN, "accepted"): _D.ACCEPTED,  # a late 2yz from a worker whose lease had expired
    (_D.UNCERTAIN, "failed"): _D.FAILED,
    (_D.UNCERTAIN, "cancelled"): _D.CANCELLED,
    (_D.ACCEPTED, "delivered"): _D.DELIVERED,
    (_D.ACCEPTED, "bounced"): _D.BOUNCED,  # relays do change their mind
    (_D.FAILED, "retried"): _D.PLANNED,  # by an operator
    (_D.BOUNCED, "retried"): _D.PLANNED,
    (_D.DEFERRED, "retried"): _D.PLANNED,
    (_D.UNCERTAIN, "retried"): _D.PLANNED,
}
FOLDER_MOVES = {
    (_D.PLANNED, "published"): _D.PUBLISHED,
    (_D.PLANNED, "held"): _D.HELD,
    (_D.PLANNED, "withdrawn"): _D.WITHDRAWN,
    (_D.PLANNED, "cancelled"): _D.CANCELLED,
    (_D.HELD, "released"): _D.PLANNED,
    (_D.HELD, "cancelled"): _D.CANCELLED,
    (_D.HELD, "withdrawn"): _D.WITHDRAWN,
    (_D.PUBLISHED, "received"): _D.RECEIVED,
    (_D.PUBLISHED, "expired"): _D.EXPIRED_UNREAD,
    (_D.PUBLISHED, "withdrawn"): _D.WITHDRAWN,
    (_D.RECEIVED, "withdrawn"): _D.WITHDRAWN,
    (_D.EXPIRED_UNREAD, "received"): _D.RECEIVED,  # read from the archive after all
    (_D.EXPIRED_UNREAD, "withdrawn"): _D.WITHDRAWN,
}
DELIVERY_MOVES = {Channel.EMAIL: MAIL_MOVES, Channel.FOLDER: FOLDER_MOVES}
FINAL_MAIL = frozenset({_D.ACCEPTED, _D.DELIVERED, _D.BOUNCED, _D.FAILED, _D.CANCELLED})


def advance_document(state: DocumentState, event: str) -> DocumentState:
    """The state after `event`; Conflict when the table has no such move."""
    try:
        return DOCUMENT_MOVES[state, event]
    except KeyError:
        raise Conflict(f"a document that is {state} cannot be {event}") from None


def advance_delivery(channel: Channel, state: DeliveryState, event: str) -> DeliveryState:
    """The state after `event`; Conflict when the channel's table has no such move."""
    try:
        return DELIVERY_MOVES[channel][state, event]
    except KeyError:
        raise Conflict(
            f"{'an e-mail' if channel is Channel.EMAIL else 'a folder'} delivery that is {state} cannot be {event}"
        ) from None


def states_before(channel: Channel, event: str) -> list[DeliveryState]:
    """The states that `event` may move from: the WHERE of a batch statement."""
    return [state for (state, name) in DELIVERY_MOVES[channel] if name == event]
