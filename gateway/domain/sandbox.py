"""A client's test area: files that it wrote there, and test documents made for it. None of them is ever a receipt."""

import datetime as dt

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from .columns import JSON, UTCDateTime, new_id


class SandboxFile(SQLModel, table=True):
    """A file under `sandbox/`. Its blob begins with random bytes: nothing else is kept under its digest."""

    __tablename__ = "sandbox_file"
    id: str = Field(default_factory=new_id("sbx"), primary_key=True)
    folder_id: str = Field(foreign_key="folder.id")
    path: str = Field(max_length=300, description="/sandbox/…")
    path_folded: str = Field(max_length=300)
    blob_sha256: str = Field(max_length=64)
    sha256: str = Field(max_length=64, description="Of the file, which follows the random bytes")
    size: int = Field(sa_type=sa.BigInteger, description="The file's")
    mtime: int = Field(sa_type=sa.BigInteger, description="Unix seconds at which it was whole")
    is_made: bool = Field(default=False, description="A test document, made by the gateway")
    __table_args__ = (sa.UniqueConstraint("folder_id", "path_folded"), sa.Index("ix_sandbox_file_mtime", "mtime"))


class SandboxTest(SQLModel, table=True):
    """A test document that the gateway made, one row a file: what its client did with it. It outlives its file."""

    __tablename__ = "sandbox_test"
    id: str = Field(primary_key=True, description="Of its SandboxFile")
    folder_id: str = Field(foreign_key="folder.id")
    name: str = Field(max_length=100, description="As it was made")
    number: str = Field(max_length=35)
    format: str = Field(max_length=4, description="pdf | xml")
    sha256: str = Field(max_length=64)
    size: int = Field(sa_type=sa.BigInteger)
    made_at: dt.datetime = Field(sa_type=UTCDateTime)
    made_by: str = Field(max_length=64)
    read_ranges: list[list[int]] = Field(default_factory=list, sa_type=JSON)
    # ^ union over all sessions, [start, end) pairs, sorted
    fully_read_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    removed_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    __table_args__ = (sa.Index("ix_sandbox_test_folder", "folder_id", "made_at"),)


class SandboxDirectory(SQLModel, table=True):
    """A folder that the client made under `sandbox/`."""

    __tablename__ = "sandbox_directory"
    folder_id: str = Field(primary_key=True, foreign_key="folder.id")
    path_folded: str = Field(primary_key=True, max_length=300)
    path: str = Field(max_length=300)
    mtime: int = Field(sa_type=sa.BigInteger, description="Unix seconds")


class SandboxLeftover(SQLModel, table=True):
    """A blob of a file that is gone, until the store has forgotten it too."""

    __tablename__ = "sandbox_leftover"
    blob_sha256: str = Field(primary_key=True, max_length=64)
    at: dt.datetime = Field(sa_type=UTCDateTime)
