"""A client's test area: files that it wrote there, and test documents made for it. None of them is ever a receipt."""

import datetime as dt

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from .columns import UTCDateTime, new_id


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
