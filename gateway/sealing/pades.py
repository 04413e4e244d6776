"""Put a PAdES B-B seal (ETSI EN 319 142-1) into a PDF by an incremental update.

The received bytes stay as they are and come first in the output: the seal is an invisible field on page 1, and
nothing else is added or changed, metadata included. pyHanko writes the update; the CMS is ours (keys/cms.py),
since pyHanko's own takes longer than the rest together.

Refused: encrypted, damaged beyond an incremental update, or locked by a signature that allows none.
"""

import datetime as dt
import itertools
import re
from io import BytesIO
from typing import Any

from pyhanko.pdf_utils.generic import DictionaryObject, FloatObject
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign.fields import MDPPerm, SigSeedSubFilter
from pyhanko.sign.signers.cms_embedder import PdfCMSEmbedder, SigIOSetup, SigObjSetup
from pyhanko.sign.signers.constants import ESIC_EXTENSION_1
from pyhanko.sign.signers.pdf_byterange import PreparedByteRangeDigest, SignatureObject

from ..errors import Refused
from ..keys import cms
from ..keys.load import SigningKey

FIELD_NAME = "Cachet"
_STARTXREF = re.compile(rb"startxref\s+([0-9]{1,20})")
_TAIL = 1054  # bytes at the end that qpdf looks through

# Its own gives 1E-7 for what the catalog or the first page says as 0.0000001: no number in a PDF (ISO 32000-1 7.3.3).
FloatObject.__repr__ = lambda number: format(number, "f")  # type: ignore[method-assign]


class _SealUpdate(IncrementalPdfFileWriter):
    """An update that holds the seal and nothing else.

    pyHanko's own update also rewrites the XMP and the Info dictionary, which changes the Factur-X prefix and lets
    the two disagree on the producer, and raises the version in the catalog.
    """

    output_version = (1, 0)  # no lower than any: the document's own version stays

    def __init__(self, content: bytes) -> None:
        super().__init__(BytesIO(content), strict=False)
        xrefs = self.prev.xrefs
        revisions = map(xrefs.explicit_refs_in_revision, range(xrefs.total_revisions))
        taken = {reference.idnum for revision in revisions for reference in revision}
        self._lastobj_id = max({self._lastobj_id} | taken)  # /Size says too little in some documents

    def _update_meta(self) -> None:
        """Metadata stays as it was."""

    def _write_header(self, stream: BytesIO) -> None:
        content = self.input_stream.getvalue()
        stream.write(content)
        if not content.endswith((b"\n", b"\r")):
            stream.write(b"\n")  # else the first object would stand in the comment %%EOF


def seal(content: bytes, key: SigningKey, reason: str, at: dt.datetime) -> bytes:
    """The sealed document: `content`, then the seal made by `key` at `at` (aware), with its `reason`."""
    with_room, prepared = _update(content, 2 * cms.max_size(key), reason, at)
    prepared.fill_with_cms(with_room, cms.sign(key, prepared.document_digest))
    return with_room.getvalue()


def _update(content: bytes, room: int, reason: str, at: dt.datetime) -> tuple[BytesIO, PreparedByteRangeDigest]:
    """The document with an empty seal of `room` hexadecimal digits, and the digest that the seal is to sign."""
    try:
        writer = _SealUpdate(content)
        _refuse_what_takes_no_seal(writer)
        if writer.prev.input_version < (2, 0):
            writer.register_extension(ESIC_EXTENSION_1)  # EN 319 142-1 5.5
            writer.mark_update(writer.root_ref)
        embedder = PdfCMSEmbedder().write_cms(_free_field_name(writer), writer)
        next(embedder)
        embedder.send(SigObjSetup(SignatureObject(at, SigSeedSubFilter.PADES, reason=reason, bytes_reserved=room)))
        prepared, with_room = embedder.send(SigIOSetup(md_algorithm="sha256"))
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - an odd document makes pyHanko raise nearly anything
        raise Refused(f"the PDF takes no seal: {str(error) or type(error).__name__}", code="pdf_unsealable") from None
    return with_room, prepared


def _refuse_what_takes_no_seal(writer: _SealUpdate) -> None:
    if writer.prev.encrypted:
        raise Refused("the PDF is encrypted", code="encrypted")
    named = _STARTXREF.findall(writer.input_stream.getvalue()[-_TAIL:])
    if not named or int(named[-1]) != writer.prev.last_startxref:
        raise Refused("the PDF's end is damaged: readers differ on what it says last", code="pdf_unsealable")
    certification = _entry(_entry(writer.root, "/Perms", {}), "/DocMDP", None)
    if certification is not None and _allowed_changes(certification) == MDPPerm.NO_CHANGES:
        raise Refused("a signature in the PDF forbids any further change", code="pdf_locked")


def _allowed_changes(signature: DictionaryObject) -> MDPPerm:
    """ISO 32000-1 table 254: what a certification signature leaves open."""
    for reference in _entry(signature, "/Reference", []):
        parameters = _entry(reference.get_object(), "/TransformParams", {})
        return MDPPerm(_entry(parameters, "/P", MDPPerm.FILL_FORMS.value))
    return MDPPerm.FILL_FORMS


def _free_field_name(writer: _SealUpdate) -> str:
    """Cachet, Cachet2, Cachet3 …: the first that no field of the form has."""
    fields = _entry(_entry(writer.root, "/AcroForm", {}), "/Fields", [])
    taken = {str(_entry(field.get_object(), "/T", "")) for field in fields}
    names = (FIELD_NAME if count == 1 else f"{FIELD_NAME}{count}" for count in itertools.count(1))
    return next(name for name in names if name not in taken)


def _entry(dictionary: Any, key: str, default: Any) -> Any:
    """A value, references followed, which pyHanko's own `get` does not do."""
    try:
        return dictionary[key]
    except KeyError:
        return default
