"""The history of a folder: what its client had on the server before, brought along into the archive.

Nothing here was sealed or published by the gateway, so it is no entry, has no sequence number, no delivery, no receipt.
"""

import datetime as dt

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from .columns import UTCDateTime, new_id


class HistoryFile(SQLModel, table=True):
    """A file under `archive/YYYY/MM/` that came from the server before. The row never changes; withdrawn, it goes."""

    __tablename__ = "history_file"
    id: str = Field(default_factory=new_id("hst"), primary_key=True)
    folder_id: str = Field(foreign_key="folder.id")
    month: str = Field(max_length=7, description="YYYY-MM of its date, in the issuer's zone")
    name: str = Field(max_length=255, description="As on the server before, or as its importer wanted")
    name_folded: str = Field(max_length=300, description="Unique in its month")
    sha256: str = Field(max_length=64)
    size: int = Field(sa_type=sa.BigInteger)
    mtime: int = Field(sa_type=sa.BigInteger, description="Unix seconds; the date that it had before")
    import_id: str = Field(max_length=40, description="Of the record history.imported, which has the list's digest")
    imported_at: dt.datetime = Field(sa_type=UTCDateTime)
    __table_args__ = (
        sa.UniqueConstraint("folder_id", "month", "name_folded"),
        sa.Index("ix_history_file_name", "folder_id", "name_folded"),
    )
