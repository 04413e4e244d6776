"""Make a client's test document: a whole invoice, and nothing that anybody can take for one.

TEST stands across every page and in a line below it, number and note say so, the seller is nobody. It is never
sealed. The XML inside is whole, for a client's program is to read it.
"""

from io import BytesIO

import pikepdf

from .. import invoices
from . import document
from .mark import mark_pages

WORD = "TEST"
NOTE = "TEST : document d’essai, sans valeur, à ne pas comptabiliser. Test document, not an invoice."


def make(facts: invoices.InvoiceFacts) -> bytes:
    """The PDF. The same facts give the same bytes."""
    with document.opened(invoices.make(facts)) as pdf:
        mark_pages(pdf, WORD, NOTE)
        marked = BytesIO()
        pdf.save(
            marked,
            force_version="1.7",
            fix_metadata_version=False,
            deterministic_id=True,
            compress_streams=False,  # XMP must stay readable (ISO 19005-3, 6.6.2)
            object_stream_mode=pikepdf.ObjectStreamMode.disable,
        )
    return marked.getvalue()
