"""Put pages and XML together as a Factur-X file: PDF/A-3b with factur-x.xml embedded (Factur-X 1.0, ISO 19005-3).

What all invoices share (fonts, colour profile, empty pages) is made once a process and kept as a template; a document
is the template with its own contents, XML and metadata. Nothing depends on time or chance: same input, same bytes.
"""

import datetime as dt
import hashlib
import io
import zlib
from dataclasses import dataclass
from functools import cache
from xml.sax.saxutils import escape

import pikepdf
from pikepdf import Array, Dictionary, Name, String
from PIL import ImageCms

from .sheet import HEIGHT, WIDTH, Face, font

PAGES = 3
XML_NAME = "factur-x.xml"
_PRODUCER = "Invoice gateway demo"


@dataclass(frozen=True)
class Description:
    """What the file says about itself, in XMP and in the information dictionary alike."""

    title: str
    author: str
    subject: str
    day: dt.date  # of creation


def assemble(pages: tuple[bytes, ...], xml: bytes, about: Description) -> bytes:
    """The PDF: content streams for PAGES pages, the XML, the description."""
    with pikepdf.open(io.BytesIO(_template())) as pdf:
        for page, content in zip(pdf.pages, pages, strict=True):
            page.obj.Contents = _stream(pdf, content)
        pdf.Root.Metadata = pikepdf.Stream(pdf, _xmp(about), Type=Name.Metadata, Subtype=Name.XML)
        _describe(pdf, about)
        _embed(pdf, xml, about)
        result = io.BytesIO()
        pdf.save(
            result,
            force_version="1.7",
            fix_metadata_version=False,
            deterministic_id=True,
            compress_streams=False,  # what deserves it is compressed; XMP must stay readable (ISO 19005-3, 6.6.2)
            object_stream_mode=pikepdf.ObjectStreamMode.disable,
        )
    return result.getvalue()


def _stream(pdf: pikepdf.Pdf, content: bytes, **entries: object) -> pikepdf.Stream:
    return pikepdf.Stream(pdf, zlib.compress(content, 6), Filter=Name.FlateDecode, **entries)


def _timestamp(day: dt.date) -> str:
    return f"D:{day:%Y%m%d}080000Z"


def _describe(pdf: pikepdf.Pdf, about: Description) -> None:
    stamp = _timestamp(about.day)
    pdf.trailer.Info = pdf.make_indirect(
        Dictionary(
            Title=String(about.title), Author=String(about.author), Subject=String(about.subject),
            Creator=String(_PRODUCER), Producer=String(_PRODUCER), CreationDate=String(stamp), ModDate=String(stamp),
        )
    )  # fmt: skip


def _embed(pdf: pikepdf.Pdf, xml: bytes, about: Description) -> None:
    """The XML as an associated file of the document: /AF and the name tree (ISO 19005-3, 6.8)."""
    parameters = Dictionary(
        Size=len(xml),
        ModDate=String(_timestamp(about.day)),
        CheckSum=String(hashlib.md5(xml, usedforsecurity=False).digest()),
    )
    file = _stream(pdf, xml, Type=Name.EmbeddedFile, Subtype=Name("/text/xml"), Params=parameters)
    specification = pdf.make_indirect(
        Dictionary(
            Type=Name.Filespec, F=String(XML_NAME), UF=String(XML_NAME), AFRelationship=Name.Alternative,
            Desc=String("Factur-X, profil EN 16931"), EF=Dictionary(F=file, UF=file),
        )
    )  # fmt: skip
    pdf.Root.AF = Array([specification])
    pdf.Root.Names = Dictionary(EmbeddedFiles=Dictionary(Names=Array([String(XML_NAME), specification])))


@cache
def _template() -> bytes:
    with pikepdf.new() as pdf:
        faces: tuple[Face, ...] = ("Regular", "Bold")
        fonts = Dictionary({f"/{face}": _font(pdf, face) for face in faces})
        resources = pdf.make_indirect(Dictionary(Font=fonts))
        for _ in range(PAGES):
            page = Dictionary(Type=Name.Page, MediaBox=Array([0, 0, WIDTH, HEIGHT]), Resources=resources)
            pdf.pages.append(pikepdf.Page(pdf.make_indirect(page)))
        pdf.Root.Lang = String("fr-FR")
        pdf.Root.ViewerPreferences = Dictionary(DisplayDocTitle=True)
        pdf.Root.OutputIntents = Array([_output_intent(pdf)])
        result = io.BytesIO()
        pdf.save(result, static_id=True, compress_streams=False)
    return result.getvalue()


def _font(pdf: pikepdf.Pdf, face: Face) -> Dictionary:
    """A simple TrueType font, symbolic: its program's own table gives each byte its glyph (ISO 32000-1, 9.6.6.4)."""
    source = font(face)
    name = Name(f"/DEMOAA+{source.name}")
    descriptor = Dictionary(
        Type=Name.FontDescriptor, FontName=name, Flags=4, FontBBox=Array(list(source.box)), ItalicAngle=0,
        Ascent=source.ascent, Descent=source.descent, CapHeight=source.ascent, StemV=source.stem,
        FontFile2=pdf.make_indirect(_stream(pdf, source.program, Length1=len(source.program))),
    )  # fmt: skip
    return pdf.make_indirect(
        Dictionary(
            Type=Name.Font, Subtype=Name.TrueType, BaseFont=name, FirstChar=32, LastChar=255,
            Widths=Array([round(width, 3) for width in source.widths[32:]]),
            FontDescriptor=pdf.make_indirect(descriptor),
            ToUnicode=pdf.make_indirect(_stream(pdf, _to_unicode(source.characters))),
        )
    )  # fmt: skip


def _to_unicode(characters: str) -> bytes:
    """The map by which a reader copies and searches text (ISO 32000-1, 9.10.3)."""
    mapped = [f"<{code:02X}> <{ord(character):04X}>" for code, character in enumerate(characters) if code >= 32]
    blocks = [mapped[start : start + 100] for start in range(0, len(mapped), 100)]  # the limit of one block
    listed = "\n".join(f"{len(block)} beginbfchar\n" + "\n".join(block) + "\nendbfchar" for block in blocks)
    return (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n"
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def\n"
        "/CMapName /Adobe-Identity-UCS def /CMapType 2 def\n"
        "1 begincodespacerange <00> <FF> endcodespacerange\n"
        f"{listed}\nendcmap CMapName currentdict /CMap defineresource pop end end\n"
    ).encode("ascii")


def _output_intent(pdf: pikepdf.Pdf) -> Dictionary:
    """What our RGB numbers mean: sRGB, with its ICC profile."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # The profile's own creation date (ICC.1, 7.2.8) is the moment it was made: it would change the bytes every time.
    profile[24:36] = b"".join(number.to_bytes(2, "big") for number in (2000, 1, 1, 0, 0, 0))
    return Dictionary(
        Type=Name.OutputIntent, S=Name.GTS_PDFA1, OutputConditionIdentifier=String("sRGB"),
        Info=String("sRGB IEC61966-2.1"), DestOutputProfile=_stream(pdf, bytes(profile), N=3),
    )  # fmt: skip


_PROPERTIES = {
    "DocumentFileName": "name of the embedded XML invoice file",
    "DocumentType": "INVOICE",
    "Version": "The actual version of the Factur-X XML schema",
    "ConformanceLevel": "The conformance level of the embedded Factur-X data",
}
_PROPERTY = """<rdf:li rdf:parseType="Resource">
        <pdfaProperty:name>{}</pdfaProperty:name>
        <pdfaProperty:valueType>Text</pdfaProperty:valueType>
        <pdfaProperty:category>external</pdfaProperty:category>
        <pdfaProperty:description>{}</pdfaProperty:description>
       </rdf:li>"""
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/"
    pdfaid:part="3" pdfaid:conformance="B"/>
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
   <dc:format>application/pdf</dc:format>
   <dc:title><rdf:Alt><rdf:li xml:lang="x-default">{title}</rdf:li></rdf:Alt></dc:title>
   <dc:creator><rdf:Seq><rdf:li>{author}</rdf:li></rdf:Seq></dc:creator>
   <dc:description><rdf:Alt><rdf:li xml:lang="x-default">{subject}</rdf:li></rdf:Alt></dc:description>
  </rdf:Description>
  <rdf:Description rdf:about="" xmlns:pdf="http://ns.adobe.com/pdf/1.3/" pdf:Producer="{producer}"/>
  <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmp:CreatorTool="{producer}" xmp:CreateDate="{date}" xmp:ModifyDate="{date}"/>
  <rdf:Description rdf:about="" xmlns:fx="urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#"
    fx:DocumentType="INVOICE" fx:DocumentFileName="{xml_name}" fx:Version="1.0" fx:ConformanceLevel="EN 16931"/>
  <rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/"
    xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#"
    xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#">
   <pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource">
     <pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>
     <pdfaSchema:namespaceURI>urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#</pdfaSchema:namespaceURI>
     <pdfaSchema:prefix>fx</pdfaSchema:prefix>
     <pdfaSchema:property><rdf:Seq>
       {properties}
     </rdf:Seq></pdfaSchema:property>
   </rdf:li></rdf:Bag></pdfaExtension:schemas>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


def _xmp(about: Description) -> bytes:
    """XMP with the PDF/A claim, the Factur-X properties and the schema that PDF/A asks for them."""
    return _XMP.format(
        title=escape(about.title),
        author=escape(about.author),
        subject=escape(about.subject),
        producer=_PRODUCER,
        date=f"{about.day}T08:00:00Z",
        xml_name=XML_NAME,
        properties="\n       ".join(_PROPERTY.format(*item) for item in _PROPERTIES.items()),
    ).encode("utf-8")
