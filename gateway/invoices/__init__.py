"""Invoices that are nobody's: for clients' test documents, the demo, the tests and the benchmarks.

French utility style, Factur-X, profile EN 16931. `make` turns facts into a PDF, `xml` into the XML alone; `series`
gives as many different ones as wanted. facts.py decides what is said, cii.py says it to machines, pages.py to people
(drawing with sheet.py), pdf.py puts both into one file. The same facts give the same bytes. Sellers are invented.
"""

import calendar
import datetime as dt
from collections.abc import Iterator, Sequence

from ..domain.parties import ContractType
from .cii import invoice
from .facts import DISTRIBUTOR, FOUNDRY, SOLAR, TESTER, Company, Contract, InvoiceFacts, Preceding, lines, totals
from .layout import TITLES
from .pages import pages
from .pdf import Description, assemble

__all__ = ["CONTRACTS", "DISTRIBUTOR", "FOUNDRY", "SOLAR", "TESTER", "Company", "Contract", "ContractType",
           "InvoiceFacts", "Preceding", "lines", "make", "series", "totals", "xml"]  # fmt: skip

CONTRACTS: tuple[tuple[Company, Contract], ...] = (
    (FOUNDRY, Contract("CARD-S-000101", ContractType.CARD_S, "00000000000101", "Fonderie, port aux sables", 420)),
    (SOLAR, Contract("CARD-I-000201", ContractType.CARD_I, "00000000000201", "Centrale du coteau", 2500)),
    (FOUNDRY, Contract("CARD-S-000102", ContractType.CARD_S, "00000000000102", "Entrepôt du quai", 96)),
)


def xml(facts: InvoiceFacts) -> bytes:
    """The invoice as XML: what `make` embeds."""
    of = lines(facts)
    return invoice(facts, of, totals(of))


def make(facts: InvoiceFacts) -> bytes:
    """The invoice as a PDF of three pages, about 70 KB."""
    of = lines(facts)
    sums = totals(of)
    title = f"{TITLES[facts.type_code].capitalize()} {facts.number}"
    about = Description(
        title=f"{facts.seller.name} : {title}",
        author=facts.seller.name,
        subject=f"{title} du {facts.issue_date:%d/%m/%Y} pour {facts.buyer.name}, contrat {facts.contract.number}",
        day=facts.issue_date,
    )
    return assemble(pages(facts, of, sums), invoice(facts, of, sums), about)


def series(
    count: int,
    issue_date: dt.date,
    first: int = 1,
    contracts: Sequence[tuple[Company, Contract]] = CONTRACTS,
) -> Iterator[tuple[InvoiceFacts, bytes]]:
    """`count` different invoices, numbered `YYYY-MM-NNNNNN` from `first`, for the month before the issue date.

    The contracts take turns; the energy differs from one invoice to the next.
    """
    end = issue_date.replace(day=1) - dt.timedelta(days=1)
    for serial in range(first, first + count):
        buyer, contract = contracts[(serial - first) % len(contracts)]
        facts = InvoiceFacts(
            number=f"{issue_date:%Y-%m}-{serial:06d}",
            issue_date=issue_date,
            period_start=end.replace(day=1),
            period_end=end,
            buyer=buyer,
            contract=contract,
            kwh=_energy(contract, end, serial),
        )
        yield facts, make(facts)


def _energy(contract: Contract, month: dt.date, serial: int) -> int:
    """A plausible month: the contract's power for part of its hours, and a few kWh that tell invoices apart."""
    hours = 24 * calendar.monthrange(month.year, month.month)[1]
    percent = 38 if contract.draws else 14
    return contract.power_kw * hours * percent // 100 + serial * 37 % 1009
