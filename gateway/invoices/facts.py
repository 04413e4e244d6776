"""What an invoice of ours says: parties, contract, lines and totals, to the cent.

Companies, sites and prices are invented; the identifiers pass their check digits and belong to nobody. The words
are those of a French distributor's invoice for access to the grid: gestion (CG), comptage (CC), soutirage (CS).
Numbers in comments and docstrings (BT-1, BG-3 …) are the business terms of EN 16931-1.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from stdnum import luhn

from ..domain import identifiers
from ..domain.parties import ContractType

CENT = Decimal("0.01")
STANDARD, REDUCED = Decimal("20.00"), Decimal("5.50")  # VAT rates, per cent


@dataclass(frozen=True)
class Company:
    """A seller or buyer (BG-4, BG-7). `siren`: nine digits, compact."""

    name: str
    siren: str
    street: str
    postcode: str
    city: str
    email: str

    def __post_init__(self) -> None:
        identifiers.siren(self.siren)

    @property
    def siret(self) -> str:
        """SIRET of the head office: SIREN, establishment 0001, check digit."""
        return f"{self.siren}0001" + luhn.calc_check_digit(f"{self.siren}0001")

    @property
    def vat_number(self) -> str:
        """French VAT number: FR, two digits that follow from the SIREN, SIREN."""
        return f"FR{(12 + 3 * (int(self.siren) % 97)) % 97:02d}{self.siren}"


DISTRIBUTOR = Company(
    "DISTRIBUTION ÉNERGIE DÉMO", "000000018", "1 place du Poste-Source", "00100", "VILLE-EXEMPLE",
    "factures@distribution.example",
)  # fmt: skip
# Who seems to have sent a client's test documents: no issuer of any gateway, so that none can be handed in as real.
TESTER = Company("ÉMETTEUR DE TEST", "000000042", "1 rue de l’Essai", "00400", "VILLE-EXEMPLE", "test@emetteur.example")
FOUNDRY = Company(
    "FONDERIE DES SABLES DÉMO", "000000026", "12 quai du Four", "00200", "PORT-EXEMPLE", "compta@fonderie.example"
)
SOLAR = Company(
    "SOLAIRE DU COTEAU DÉMO", "000000034", "Chemin des Panneaux", "00300", "COTEAU-EXEMPLE", "compta@solaire.example"
)


@dataclass(frozen=True)
class Contract:
    """Access to the grid. `prm`: delivery point, 14 digits; `power_kw`: subscribed (draw-off) or connected power."""

    number: str
    type: ContractType
    prm: str
    site: str
    power_kw: int

    @property
    def draws(self) -> bool:
        """Draw-off (CARD-S); otherwise injection (CARD-I)."""
        return self.type is ContractType.CARD_S


@dataclass(frozen=True)
class Preceding:
    """The invoice that a credit note or corrected invoice refers to (BG-3)."""

    number: str
    issue_date: dt.date


@dataclass(frozen=True)
class Line:
    """One line (BG-25). `unit`: UN/ECE Recommendation 20; `price` in EUR a unit, `vat_rate` in per cent."""

    group: str
    code: str
    name: str
    quantity: Decimal
    unit: Literal["MON", "KWT", "KWH", "C62"]
    price: Decimal
    vat_rate: Decimal = STANDARD

    @property
    def net(self) -> Decimal:
        """BT-131, without VAT, in cents."""
        return (self.quantity * self.price).quantize(CENT, ROUND_HALF_UP)


@dataclass(frozen=True)
class VatBreakdown:
    """One rate's share (BG-23): per cent, basis and tax."""

    rate: Decimal
    basis: Decimal
    tax: Decimal


@dataclass(frozen=True)
class Totals:
    """BG-22: the sum of the lines, the VAT of each rate (lowest first), and the two sums over them."""

    net: Decimal
    vat: tuple[VatBreakdown, ...]

    @property
    def tax(self) -> Decimal:
        """BT-110."""
        return sum((share.tax for share in self.vat), Decimal(0))

    @property
    def gross(self) -> Decimal:
        """BT-112, and BT-115 since nothing was paid before."""
        return self.net + self.tax


@dataclass(frozen=True)
class InvoiceFacts:
    """Everything an invoice is made from. `kwh`: energy of the period; `type_code` as in UNTDID 1001.

    `note`: the first of its notes (BT-22), if there is one. Amounts of a credit note are positive, as EN 16931 has
    them. Refused when number or SIREN break their form; ValueError when a credit note or corrected invoice names no
    preceding invoice.
    """

    number: str
    issue_date: dt.date
    period_start: dt.date
    period_end: dt.date
    buyer: Company
    contract: Contract
    kwh: int
    type_code: Literal["380", "381", "384"] = "380"
    corrects: Preceding | None = None
    seller: Company = DISTRIBUTOR
    note: str = ""

    def __post_init__(self) -> None:
        identifiers.invoice_number(self.number)
        if (self.type_code == "380") != (self.corrects is None):
            raise ValueError(f"type {self.type_code} with preceding invoice {self.corrects}")

    @property
    def due_date(self) -> dt.date:
        """BT-9."""
        return self.issue_date + dt.timedelta(days=15)

    @property
    def winter(self) -> bool:
        """The tariff's high season, November to March."""
        return self.period_start.month in (11, 12, 1, 2, 3)


# Name, share of the season's energy in per cent, EUR a kWh. Shares of a season add up to 100.
_HIGH_SEASON = (
    ("Pointe", 9, Decimal("0.02845")),
    ("Heures pleines saison haute", 56, Decimal("0.02110")),
    ("Heures creuses saison haute", 35, Decimal("0.01305")),
)
_LOW_SEASON = (
    ("Heures pleines saison basse", 63, Decimal("0.01172")),
    ("Heures creuses saison basse", 37, Decimal("0.00823")),
)
FIXED, VARIABLE, TAXES = "Acheminement – part fixe", "Acheminement – part variable", "Taxes et contributions"


def energy(facts: InvoiceFacts) -> tuple[tuple[str, int, Decimal], ...]:
    """The period's energy by time class: name, kWh, EUR a kWh. The kWh add up to `facts.kwh`."""
    if not facts.contract.draws:
        return (("Énergie injectée", facts.kwh, Decimal("0.00031")),)
    classes = _HIGH_SEASON if facts.winter else _LOW_SEASON
    parts = [facts.kwh * share // 100 for _, share, _ in classes]
    parts[-1] += facts.kwh - sum(parts)
    return tuple((name, part, price) for (name, _, price), part in zip(classes, parts, strict=True))


def lines(facts: InvoiceFacts) -> tuple[Line, ...]:
    """The invoice's lines, in the order of the page."""
    contract, one = facts.contract, Decimal(1)
    fixed = [
        Line(FIXED, "CG", "Composante de gestion (CG)", one, "MON", Decimal("36.31")),
        Line(FIXED, "CC", "Composante de comptage (CC)", one, "MON", Decimal("29.87")),
    ]
    if contract.draws:
        power = Decimal(contract.power_kw)
        fixed.append(Line(FIXED, "CS-F", "Composante de soutirage (CS), puissance", power, "KWT", Decimal("1.0725")))
    kind = "CS" if contract.draws else "CI"
    variable = [
        Line(VARIABLE, f"{kind}-{place}", f"{name} ({kind})", Decimal(kwh), "KWH", price)
        for place, (name, kwh, price) in enumerate(energy(facts), start=1)
    ]
    return (*fixed, *variable, *_taxes(contract, fixed))


def _taxes(contract: Contract, fixed: list[Line]) -> tuple[Line, ...]:
    if not contract.draws:
        return (Line(TAXES, "REL", "Relève à distance, forfait mensuel", Decimal(1), "C62", Decimal("8.40")),)
    basis = sum((line.net for line in fixed), Decimal(0))
    contribution = (basis * Decimal("0.1011")).quantize(CENT, ROUND_HALF_UP)
    name = "Contribution tarifaire d’acheminement (CTA)"
    return (Line(TAXES, "CTA", name, Decimal(1), "C62", contribution, REDUCED),)


def totals(of: tuple[Line, ...]) -> Totals:
    """Sums of lines. VAT is rounded once a rate (BR-CO-17), so that totals agree to the cent."""
    shares = []
    for rate in sorted({line.vat_rate for line in of}):
        basis = sum((line.net for line in of if line.vat_rate == rate), Decimal(0))
        shares.append(VatBreakdown(rate, basis, (basis * rate / 100).quantize(CENT, ROUND_HALF_UP)))
    return Totals(sum((share.basis for share in shares), Decimal(0)), tuple(shares))


_SEASONS = {True: (118, 112, 108, 101, 94, 90, 88, 71, 93, 100, 108, 116),
            False: (38, 55, 90, 122, 146, 158, 162, 149, 115, 75, 44, 33)}  # fmt: skip


def history(facts: InvoiceFacts) -> tuple[tuple[dt.date, int], ...]:
    """First day of a month and its kWh, thirteen months, the last one this invoice's; the same for the same facts."""
    season, this = _SEASONS[facts.contract.draws], facts.period_start.replace(day=1)
    level = facts.kwh / season[this.month - 1]
    months = [_months_before(this, back) for back in range(12, 0, -1)]
    earlier = [(month, round(level * season[month.month - 1] * _variation(facts, month))) for month in months]
    return (*earlier, (this, facts.kwh))


def _months_before(month: dt.date, count: int) -> dt.date:
    year, index = divmod(month.year * 12 + month.month - 1 - count, 12)
    return dt.date(year, index + 1, 1)


def _variation(facts: InvoiceFacts, month: dt.date) -> float:
    return 0.9 + hashlib.sha256(f"{facts.contract.prm}{month}".encode()).digest()[0] / 1275  # 0.9 to 1.1


def meter_start(facts: InvoiceFacts, register: str) -> int:
    """The meter's reading in kWh at the start of the period: any number will do, the same for the same facts."""
    digest = hashlib.sha256(f"{facts.contract.prm}{register}".encode()).digest()
    return 100_000 + int.from_bytes(digest[:3], "big") % 800_000
