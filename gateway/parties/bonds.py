"""One dated bond follows another: a company's client, a contract's company, the channel of its originals.

From its first day on a bond holds until the next one begins. A bond that was to begin later would be lost to a new
one before it: that is a Conflict (`later_change`) unless it is meant. What is replaced is told, for the evidence.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from ..domain.parties import CompanyHolding, ContractHolding, OriginalChannel
from ..errors import Conflict
from ..store.database import Transaction
from .periods import day_before

Bond = TypeVar("Bond", CompanyHolding, ContractHolding, OriginalChannel)


def follow(tx: Transaction, bonds: Iterable[Bond], new: Bond, *, drop_later: bool = False) -> list[dict[str, Any]]:
    """Add `new` after the bonds of the same thing; the bonds that it takes the place of, as facts.

    One that began on the same day is corrected; one that begins later is dropped if `drop_later`, else Conflict.
    """
    replaced = []
    for bond in bonds:
        if bond.from_day > new.from_day and not drop_later:
            day = bond.from_day.isoformat()
            raise Conflict(f"a later change is entered already, for {day}", code="later_change", from_day=day)
        if bond.from_day >= new.from_day:
            replaced.append(bond.model_dump(exclude={"id", "created_at", "created_by"}, exclude_none=True))
            tx.delete(bond)
        elif bond.to_day is None or bond.to_day >= new.from_day:
            bond.to_day = day_before(new.from_day)
            tx.add(bond)
    tx.add(new)
    tx.flush()
    return replaced
