"""Page 3 of an invoice: payment, recovery, and what the words mean; the same text on each."""

from .cii import NOTES
from .facts import InvoiceFacts
from .layout import BRAND, INK, LEFT, MIDDLE, RIGHT, draw_foot, draw_heading, draw_page_head
from .sheet import Sheet

_CONDITIONS = (
    (
        "Paiement",
        (
            "La facture est payable à l’échéance indiquée en page 1, par virement SEPA, sans déduction. Le numéro de "
            "la facture doit figurer dans le libellé du virement ; un virement par facture.",
            NOTES["PMD"],
            NOTES["PMT"],
            NOTES["AAB"],
        ),
    ),
    (
        "Réclamations",
        (
            "Toute réclamation s’adresse par écrit au contact indiqué en page 1, avec le numéro du contrat et celui "
            "de la facture. Elle ne suspend pas le paiement de la partie non contestée.",
            "Une erreur reconnue donne lieu à un avoir ou à une facture rectificative qui cite la facture d’origine.",
        ),
    ),
    (
        "Relevé et estimation",
        (
            "Les quantités proviennent de la télérelève du compteur. À défaut de relevé, elles sont estimées d’après "
            "les douze derniers mois et régularisées sur la facture suivante.",
        ),
    ),
    (
        "Facture électronique",
        (
            "L’original de cette facture est un fichier PDF portant le cachet électronique de l’émetteur. Il contient "
            "les mêmes données sous forme structurée (Factur-X, profil EN 16931).",
            "Conservez le fichier tel qu’il a été reçu : toute modification, même un simple réenregistrement, rompt "
            "le cachet. Une impression n’est qu’une copie.",
        ),
    ),
)
_GLOSSARY = (
    ("Composante de gestion (CG)", "Gestion du dossier : accueil, facturation, recouvrement."),
    ("Composante de comptage (CC)", "Location, entretien, contrôle et relève du compteur."),
    ("Composante de soutirage (CS)", "Usage du réseau par un site qui consomme : une part selon la puissance "
     "souscrite, une part selon l’énergie et le poste horaire."),
    ("Composante d’injection (CI)", "Usage du réseau par un site qui produit, selon l’énergie injectée."),
    ("CTA", "Contribution tarifaire d’acheminement, assise sur la part fixe."),
    ("CARD-S, CARD-I", "Contrat d’accès au réseau de distribution, en soutirage ou en injection."),
    ("PRM", "Point de référence et de mesure : les quatorze chiffres qui désignent votre point de livraison."),
    ("Pointe", "De décembre à février, quatre heures par jour ouvré."),
    ("Saison haute, saison basse", "De novembre à mars, d’avril à octobre."),
    ("Heures creuses", "Huit heures par jour, et le dimanche entier."),
)  # fmt: skip


def conditions(facts: InvoiceFacts) -> bytes:
    """The content stream of page 3."""
    sheet = Sheet()
    draw_page_head(sheet, facts, "Conditions et informations")
    y, measure = 124.0, MIDDLE - 30 - LEFT
    for heading, paragraphs in _CONDITIONS:
        draw_heading(sheet, LEFT, y, heading)
        y += 22
        for paragraph in paragraphs:
            y = sheet.paragraph(LEFT, y, paragraph, INK, measure, 7.5, 11) + 5
        y += 14
    draw_heading(sheet, MIDDLE, 124, "Comprendre votre facture")
    y = 146.0
    for term, meaning in _GLOSSARY:
        sheet.text(MIDDLE, y, term, BRAND, 7.5, "Bold")
        y = sheet.paragraph(MIDDLE, y + 11, meaning, INK, RIGHT - MIDDLE, 7.5, 11) + 7
    draw_foot(sheet, facts, 3)
    return sheet.content()
