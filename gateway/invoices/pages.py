"""The invoice as read by people: three A4 pages in the manner of a French utility.

Page 1: parties, references, lines, VAT and totals. Page 2: the meter's readings and thirteen months as bars.
Page 3 is in conditions.py. One function draws one block; all numbers come from facts.py.
"""

import calendar
import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from itertools import groupby

from .cii import IBAN
from .conditions import conditions
from .facts import InvoiceFacts, Line, Totals, energy, history, meter_start
from .layout import (
    ACCENT,
    BRAND,
    INK,
    LEFT,
    MIDDLE,
    MONTHS,
    MUTED,
    RIGHT,
    RULE,
    TINT,
    TITLES,
    WHITE,
    Column,
    draw_foot,
    draw_heading,
    draw_mark,
    draw_page_head,
    draw_row,
    draw_table_head,
    fr_day,
    fr_euro,
    fr_number,
    fr_percent,
    grouped,
)
from .sheet import Sheet

UNITS = {"MON": "mois", "KWT": "kW", "KWH": "kWh", "C62": "forfait"}


def pages(facts: InvoiceFacts, lines: tuple[Line, ...], totals: Totals) -> tuple[bytes, ...]:
    """The content streams of the pages."""
    return _summary(facts, lines, totals), _detail(facts), conditions(facts)


def _summary(facts: InvoiceFacts, lines: tuple[Line, ...], totals: Totals) -> bytes:
    sheet = Sheet()
    _letterhead(sheet, facts)
    _references(sheet, facts)
    _addressee(sheet, facts)
    _highlights(sheet, facts, totals)
    y = _lines(sheet, lines, 352)
    _vat(sheet, totals, y + 22)
    _totals(sheet, facts, totals, y + 10)
    _payment(sheet, facts, 724)
    draw_foot(sheet, facts, 1)
    return sheet.content()


def _letterhead(sheet: Sheet, facts: InvoiceFacts) -> None:
    draw_mark(sheet, LEFT + 19, 58, 19)
    sheet.text(LEFT + 50, 55, facts.seller.name, BRAND, 13, "Bold")
    sheet.text(LEFT + 50, 69, "Gestionnaire du réseau d’électricité de démonstration", MUTED, 7.5)
    title = TITLES[facts.type_code]
    sheet.text(RIGHT, 57, title, BRAND, 20 if len(title) < 10 else 12, "Bold", "right")
    sheet.text(RIGHT, 72, f"n° {facts.number}", INK, 9.5, "Bold", "right")
    sheet.text(RIGHT, 84, f"du {fr_day(facts.issue_date)}", MUTED, 8, align="right")
    sheet.rule(LEFT, 98, RIGHT, 98, ACCENT, 1.5)


def _references(sheet: Sheet, facts: InvoiceFacts) -> None:
    contract = facts.contract
    draw_heading(sheet, LEFT, 122, "Vos références")
    rows = [
        ("Contrat", f"{contract.number} ({contract.type.value.replace('_', '-')})"),
        ("Point de livraison (PRM)", grouped(contract.prm, (2, 3, 3, 3))),
        ("Site", contract.site),
        ("Puissance souscrite" if contract.draws else "Puissance raccordée", f"{fr_number(contract.power_kw)} kW"),
        ("Période facturée", f"du {facts.period_start:%d/%m/%Y} au {facts.period_end:%d/%m/%Y}"),
        ("Votre contact", facts.seller.email),
    ]
    if facts.corrects is not None:
        preceding = facts.corrects
        rows.append(("Facture d’origine", f"{preceding.number} du {preceding.issue_date:%d/%m/%Y}"))
    for place, (label, value) in enumerate(rows):
        y = 144 + place * 14
        sheet.text(LEFT, y, label, MUTED, 7.5)
        sheet.text(LEFT + 112, y, value, INK, 7.5, "Bold")


def _addressee(sheet: Sheet, facts: InvoiceFacts) -> None:
    buyer = facts.buyer
    sheet.frame(MIDDLE, 112, RIGHT - MIDDLE, 104, RULE)
    sheet.text(MIDDLE + 16, 140, buyer.name, INK, 10, "Bold")
    sheet.text(MIDDLE + 16, 156, buyer.street, INK, 9)
    sheet.text(MIDDLE + 16, 170, f"{buyer.postcode} {buyer.city}", INK, 9)
    sheet.text(MIDDLE + 16, 198, f"SIREN {grouped(buyer.siren)}   TVA {buyer.vat_number}", MUTED, 7)


def _highlights(sheet: Sheet, facts: InvoiceFacts, totals: Totals) -> None:
    credit = facts.type_code == "381"
    cells = (
        ("Montant en votre faveur TTC" if credit else "Montant à payer TTC", fr_euro(totals.gross)),
        ("Remboursement le" if credit else "À régler au plus tard le", fr_day(facts.due_date)),
        ("Énergie soutirée" if facts.contract.draws else "Énergie injectée", f"{fr_number(facts.kwh)} kWh"),
    )
    sheet.area(LEFT, 256, RIGHT - LEFT, 56, TINT)
    sheet.area(LEFT, 256, 4, 56, ACCENT)
    for (label, value), (x, size) in zip(cells, ((LEFT + 18, 17), (LEFT + 196, 11), (LEFT + 378, 13)), strict=True):
        sheet.text(x, 275, label, MUTED, 7.5)
        sheet.text(x, 298, value, BRAND, size, "Bold")


_LINE_COLUMNS: tuple[Column, ...] = (
    (LEFT + 8, "left"), (322, "right"), (328, "left"), (424, "right"), (470, "right"), (RIGHT - 8, "right"),
)  # fmt: skip


def _lines(sheet: Sheet, lines: tuple[Line, ...], y: float) -> float:
    """Draw the lines by group, each with its sum; the lower edge of the table."""
    head = ("Désignation", "Quantité", "Unité", "Prix unitaire HT", "TVA", "Montant HT")
    draw_table_head(sheet, y, _LINE_COLUMNS, head)
    y += 19
    for group, members in groupby(lines, lambda line: line.group):
        of_group = list(members)
        sheet.text(LEFT + 8, y, group, BRAND, 8, "Bold")
        sheet.text(RIGHT - 8, y, fr_euro(sum((line.net for line in of_group), Decimal(0))), BRAND, 8, "Bold", "right")
        for line in of_group:
            y += 14.5
            draw_row(sheet, y, _LINE_COLUMNS, _cells(line), size=7.5)
        sheet.rule(LEFT, y + 6, RIGHT, y + 6, RULE)
        y += 19
    return y - 13


def _cells(line: Line) -> tuple[str, ...]:
    decimals = max(2, -int(line.price.as_tuple().exponent))
    return (
        f"   {line.name}",
        fr_number(line.quantity),
        UNITS[line.unit],
        f"{fr_number(line.price, decimals)}\xa0€",
        fr_percent(line.vat_rate),
        fr_euro(line.net),
    )


def _vat(sheet: Sheet, totals: Totals, y: float) -> None:
    columns: tuple[Column, ...] = ((LEFT + 8, "left"), (168, "right"), (MIDDLE - 30, "right"))
    across = MIDDLE - 22 - LEFT
    draw_table_head(sheet, y, columns, ("TVA", "Base HT", "Montant de TVA"), across=across)
    for place, share in enumerate(totals.vat, start=1):
        row = y + 3 + place * 16
        draw_row(sheet, row, columns, (fr_percent(share.rate), fr_euro(share.basis), fr_euro(share.tax)))
        sheet.rule(LEFT, row + 6, LEFT + across, row + 6, RULE)


def _totals(sheet: Sheet, facts: InvoiceFacts, totals: Totals, y: float) -> None:
    rows = [("Total hors taxes", totals.net)]
    rows += [(f"TVA à {fr_percent(share.rate)}", share.tax) for share in totals.vat]
    rows.append(("Total toutes taxes comprises", totals.gross))
    for place, (label, value) in enumerate(rows, start=1):
        baseline = y + place * 16
        sheet.text(MIDDLE + 10, baseline, label, INK, 8.5)
        sheet.text(RIGHT - 10, baseline, fr_euro(value), INK, 8.5, align="right")
    bottom = y + len(rows) * 16 + 10
    sheet.area(MIDDLE, bottom, RIGHT - MIDDLE, 28, BRAND)
    label = "NET EN VOTRE FAVEUR" if facts.type_code == "381" else "NET À PAYER"
    sheet.text(MIDDLE + 10, bottom + 18, label, WHITE, 9.5, "Bold")
    sheet.text(RIGHT - 10, bottom + 18.5, fr_euro(totals.gross), WHITE, 12, "Bold", "right")
    sheet.frame(MIDDLE, y, RIGHT - MIDDLE, bottom + 28 - y, BRAND, 0.8)


def _payment(sheet: Sheet, facts: InvoiceFacts, y: float) -> None:
    draw_heading(sheet, LEFT, y, "Règlement")
    terms = f"par virement SEPA au plus tard le {fr_day(facts.due_date)}, référence {facts.number}"
    if facts.type_code == "381":
        text = f"Ce montant vous est remboursé {terms}."
    else:
        account = grouped(IBAN, (4,) * 6)
        text = f"À régler {terms}, sur le compte IBAN {account} ouvert au nom de {facts.seller.name}."
    sheet.paragraph(LEFT, y + 20, text, INK, RIGHT - LEFT, 7.5, 10.5)
    sheet.text(LEFT, y + 50, "Détail des quantités en page 2, conditions en page 3.", MUTED, 7)


def _detail(facts: InvoiceFacts) -> bytes:
    sheet = Sheet()
    draw_page_head(sheet, facts, "Votre consommation" if facts.contract.draws else "Votre production")
    months = history(facts)
    _chart(sheet, months, 118)
    _readings(sheet, facts, 372)
    _months(sheet, months, 372 + 62 + 16 * (len(energy(facts)) + 1))
    draw_foot(sheet, facts, 2)
    return sheet.content()


def _chart(sheet: Sheet, months: Sequence[tuple[dt.date, int]], top: float) -> None:
    """Bars over thirteen months, the invoiced one in the accent colour, on a scale of round numbers."""
    draw_heading(sheet, LEFT, top, "Énergie mensuelle, en kWh")
    step = _scale_step(max(kwh for _, kwh in months))
    base, height = top + 210, 172.0
    for tick in range(5):
        y = base - height * tick / 4
        sheet.rule(LEFT + 44, y, RIGHT, y, RULE if tick else MUTED, 0.5)
        sheet.text(LEFT + 38, y + 2.5, fr_number(step * tick), MUTED, 6.5, align="right")
    pitch = (RIGHT - LEFT - 44) / len(months)
    for place, (month, kwh) in enumerate(months):
        current = place == len(months) - 1
        centre, tall = LEFT + 44 + pitch * (place + 0.5), height * kwh / (step * 4)
        sheet.area(centre - pitch * 0.32, base - tall, pitch * 0.64, tall, ACCENT if current else BRAND)
        sheet.area(centre - pitch * 0.45, base - tall - 10, pitch * 0.9, 8, WHITE)  # no grid behind the figure
        sheet.text(centre, base - tall - 4, fr_number(kwh), INK if current else MUTED, 5.2, align="centre")
        sheet.text(centre, base + 11, f"{month:%m/%y}", INK if current else MUTED, 6.5, align="centre")


_STEPS: tuple[int, ...] = tuple(lead * 10**power for power in range(12) for lead in (1, 2, 5))


def _scale_step(highest: int) -> int:
    """A quarter of the scale: the smallest round number with room above the highest bar."""
    return next(step for step in _STEPS if step * 4 >= highest * 1.08)


def _readings(sheet: Sheet, facts: InvoiceFacts, top: float) -> None:
    columns: tuple[Column, ...] = ((LEFT + 8, "left"), (316, "right"), (436, "right"), (RIGHT - 8, "right"))
    draw_heading(sheet, LEFT, top, "Relevés de votre compteur (télérelève)")
    start_day, end_day = f"{facts.period_start:%d/%m/%Y}", f"{facts.period_end:%d/%m/%Y}"
    head = ("Poste", f"Index au {start_day}", f"Index au {end_day}", "Énergie (kWh)")
    draw_table_head(sheet, top + 26, columns, head)
    y = top + 26
    for name, kwh, _ in energy(facts):
        y += 16
        start = meter_start(facts, name)
        draw_row(sheet, y + 3, columns, (name, fr_number(start), fr_number(start + kwh), fr_number(kwh)))
        sheet.rule(LEFT, y + 9, RIGHT, y + 9, RULE)
    draw_row(sheet, y + 19, columns, ("Total de la période", "", "", fr_number(facts.kwh)), BRAND, 8, "Bold")


def _months(sheet: Sheet, months: Sequence[tuple[dt.date, int]], top: float) -> None:
    """Thirteen months as figures, with the power that the energy means on average."""
    columns: tuple[Column, ...] = ((LEFT + 8, "left"), (316, "right"), (436, "right"), (RIGHT - 8, "right"))
    draw_heading(sheet, LEFT, top, "Historique")
    head = ("Mois", "Énergie (kWh)", "Par jour (kWh)", "Puissance moy. (kW)")
    draw_table_head(sheet, top + 26, columns, head)
    for place, (month, kwh) in enumerate(months):
        y = top + 44 + place * 14.5
        days = calendar.monthrange(month.year, month.month)[1]
        if place % 2:
            sheet.area(LEFT, y - 10, RIGHT - LEFT, 14.5, TINT)
        name = f"{MONTHS[month.month - 1].capitalize()} {month.year}"
        mean = Decimal(kwh) / days
        cells = (name, fr_number(kwh), fr_number(mean, 1), fr_number(mean / 24, 1))
        draw_row(sheet, y, columns, cells, size=7.5, face="Bold" if place == len(months) - 1 else "Regular")
