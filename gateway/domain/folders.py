"""Drop folders: keys, entries, what clients did with them.

The folder row holds `last_sequence`, `last_mtime` and `version`; publishing updates it before it inserts entries,
so commit order is sequence order. A published name and its bytes never change.
"""

import datetime as dt
import enum

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from .columns import JSON, UTCDateTime, new_id, word


class ReceiptMode(enum.StrEnum):
    """Which fact makes an entry received and takes it out of the inbox's listing."""

    DELETE = "delete"
    FULL_READ = "full_read"
    API = "api"
    NONE = "none"


class Layout(enum.StrEnum):
    """Where in its inbox a folder's entries are published from now on."""

    FLAT = "flat"
    BY_CONTRACT = "by_contract"


class Folder(SQLModel, table=True):
    """A client's drop folder, or (`is_intake`) the issuer's own account to hand documents in; `user_name` logs in."""

    __tablename__ = "folder"
    id: str = Field(default_factory=new_id("fld"), primary_key=True)
    client_id: str = Field(foreign_key="client.id", index=True)
    user_name: str = Field(max_length=64, unique=True)
    formats: list[str] = Field(sa_type=JSON)
    # ^ of "pdf" and "xml"; at least one
    receipt_mode: ReceiptMode = Field(default=ReceiptMode.DELETE, sa_type=word(ReceiptMode))
    all_contracts: bool = Field(default=True, description="False: only those of folder_contract")
    layout: Layout = Field(default=Layout.FLAT, sa_type=word(Layout))
    name_template: str | None = Field(default=None, max_length=100, description="None: the grammar of domain/names.py")
    inbox_days: int | None = Field(default=None, description="None: as the settings say")
    linger_minutes: int | None = Field(default=None, description="None: as the settings say")
    last_sequence: int = Field(default=0, sa_type=sa.BigInteger)
    last_mtime: int = Field(default=0, sa_type=sa.BigInteger, description="Unix seconds")
    version: int = Field(default=0, sa_type=sa.BigInteger, description="Counts whatever changes a listing")
    imports: int = Field(default=0, sa_type=sa.BigInteger, description="Counts imports of history (history.py)")
    networks: list[str] | None = Field(
        default=None, sa_type=JSON, description="Where its client may come from: 192.0.2.0/24; None: from everywhere"
    )
    path_map: list[list[str]] | None = Field(
        default=None, sa_type=JSON, description="[from, to] pairs (path_map.py); None: paths are as they are"
    )
    is_intake: bool = Field(default=False, description="Its log-in sees intake/ and nothing else; nothing is published")
    disabled_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    created_at: dt.datetime = Field(sa_type=UTCDateTime)


class FolderContract(SQLModel, table=True):
    """A contract that goes to a folder which does not take all."""

    __tablename__ = "folder_contract"
    folder_id: str = Field(primary_key=True, foreign_key="folder.id")
    contract_id: str = Field(primary_key=True, foreign_key="contract.id")


class SshKey(SQLModel, table=True):
    """A public key that may open a folder."""

    __tablename__ = "ssh_key"
    id: str = Field(default_factory=new_id("key"), primary_key=True)
    folder_id: str = Field(foreign_key="folder.id", index=True)
    fingerprint: str = Field(max_length=60, description="SHA256:…, as OpenSSH prints it")
    public_key: str = Field(max_length=4000, description="One line of OpenSSH format, without comment")
    label: str = Field(max_length=100)
    created_by: str = Field(max_length=64)
    created_at: dt.datetime = Field(sa_type=UTCDateTime)
    expires_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    revoked_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    last_used_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    __table_args__ = (sa.UniqueConstraint("folder_id", "fingerprint"),)


class FolderPassword(SQLModel, table=True):
    """A password that opens a folder, for clients that have no keys. Only its argon2id hash is kept."""

    __tablename__ = "folder_password"
    id: str = Field(default_factory=new_id("fpw"), primary_key=True)
    folder_id: str = Field(foreign_key="folder.id", index=True)
    label: str = Field(max_length=100)
    hash: str = Field(max_length=200, description="argon2id, as PHC string")
    created_by: str = Field(max_length=64)
    created_at: dt.datetime = Field(sa_type=UTCDateTime)
    expires_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    revoked_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    last_used_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)


class LegacyPermit(SQLModel, table=True):
    """That a client may come to the legacy listener, from its folders' networks, until it has a newer program."""

    __tablename__ = "legacy_permit"
    id: str = Field(default_factory=new_id("lgp"), primary_key=True)
    client_id: str = Field(foreign_key="client.id", index=True)
    folder_id: str | None = Field(
        default=None, foreign_key="folder.id", description="None: all of the client's folders"
    )
    reason: str = Field(max_length=500)
    ends_at: dt.datetime = Field(sa_type=UTCDateTime)
    created_by: str = Field(max_length=64)
    created_at: dt.datetime = Field(sa_type=UTCDateTime)
    revoked_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)


class Entry(SQLModel, table=True):
    """One published name. The same bytes under `inbox/` and `archive/YYYY/MM/`; both count for the same delivery."""

    __tablename__ = "folder_entry"
    id: str = Field(default_factory=new_id("ent"), primary_key=True)
    folder_id: str = Field(foreign_key="folder.id")
    delivery_id: str = Field(foreign_key="delivery.id", index=True)
    document_id: str = Field(foreign_key="document.id")
    area: str = Field(default="inbox", max_length=10, description="inbox | documents: kinds without receipts")
    directory: str = Field(default="", max_length=61, description="Inside its area, where the folder's layout has some")
    name: str = Field(max_length=100)
    name_folded: str = Field(max_length=100, description="Lower case: names are unique without case, for ever")
    format: str = Field(max_length=4, description="pdf | xml")
    sha256: str = Field(max_length=64)
    size: int = Field(sa_type=sa.BigInteger)
    mtime: int = Field(sa_type=sa.BigInteger, description="Unix seconds of publication; listed once it is over")
    month: str = Field(max_length=7, description="YYYY-MM of publication, in the issuer's zone")
    sequence: int = Field(sa_type=sa.BigInteger, description="Of its newest published event")
    listed: bool = Field(default=True, description="In the inbox's listing")
    path: str | None = Field(default=None, max_length=300, description="Where the client renamed it to")
    path_folded: str | None = Field(default=None, max_length=300)
    changed: int = Field(
        default=0, sa_type=sa.BigInteger, description="Folder.version at what a client last did that shows in a listing"
    )

    opened_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    read_ranges: list[list[int]] = Field(default_factory=list, sa_type=JSON)
    # ^ union over all sessions, [start, end) pairs, sorted
    fully_read_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    renamed_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    removed_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    received_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    withdrawn_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    __table_args__ = (
        sa.UniqueConstraint("folder_id", "name_folded"),
        sa.Index("ix_folder_entry_month", "folder_id", "month", "sequence"),
        sa.Index("ix_folder_entry_listed", "folder_id", "listed", "sequence"),
        sa.Index("ix_folder_entry_changed", "folder_id", "changed"),
        sa.Index("ix_folder_entry_received", "folder_id", "received_at"),
    )


class EventKind(enum.StrEnum):
    """What a sequence number counts."""

    PUBLISHED = "published"
    PUBLISHED_AGAIN = "published_again"
    WITHDRAWN = "withdrawn"


class FolderEvent(SQLModel, table=True):
    """A number of a folder's gap-free sequence."""

    __tablename__ = "folder_event"
    folder_id: str = Field(primary_key=True, foreign_key="folder.id")
    sequence: int = Field(primary_key=True, sa_type=sa.BigInteger)
    event: EventKind = Field(sa_type=word(EventKind))
    entry_id: str = Field(foreign_key="folder_entry.id", index=True)
    at: dt.datetime = Field(sa_type=UTCDateTime)


class FolderDirectory(SQLModel, table=True):
    """A folder under inbox/ that the client made, which lives only in its view, or that its layout has."""

    __tablename__ = "folder_directory"
    folder_id: str = Field(primary_key=True, foreign_key="folder.id")
    path_folded: str = Field(primary_key=True, max_length=300)
    path: str = Field(max_length=300)
    by_layout: bool = Field(default=False, description="Not the client's: its limit does not count it")
    created_at: dt.datetime = Field(sa_type=UTCDateTime)


class FolderSession(SQLModel, table=True):
    """A client's session: who, from where, what it was shown."""

    __tablename__ = "folder_session"
    id: str = Field(default_factory=new_id("ses"), primary_key=True)
    folder_id: str = Field(foreign_key="folder.id", index=True)
    protocol: str = Field(max_length=10)
    key_id: str | None = Field(default=None, foreign_key="ssh_key.id")
    password_id: str | None = Field(default=None, max_length=40, description="folder_password, where no key was used")
    address_id: str | None = Field(default=None, max_length=40, description="personal_value of the source address")
    banner: str = Field(default="", max_length=255, description="What the client calls itself")
    algorithms: str = Field(default="", max_length=300)
    highest_sequence: int = Field(default=0, sa_type=sa.BigInteger, description="The newest entry that it was shown")
    started_at: dt.datetime = Field(sa_type=UTCDateTime)
    ended_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime)
    __table_args__ = (
        sa.Index(
            "ix_folder_session_open",
            "id",
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        ),
    )


class HostKeySeen(SQLModel, table=True):
    """What a folder's clients know of one of the SFTP listeners' host keys. Each fact has its first time."""

    __tablename__ = "host_key_seen"
    folder_id: str = Field(primary_key=True, foreign_key="folder.id")
    fingerprint: str = Field(primary_key=True, max_length=60, description="SHA256:…, as OpenSSH prints it")
    announced_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime, description="They were told of it")
    proven_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime, description="They asked for its proof")
    used_at: dt.datetime | None = Field(default=None, sa_type=UTCDateTime, description="It served a session of theirs")


class FailedConnection(SQLModel, table=True):
    """A log-in or a negotiation with a listener that failed, and why, in words for those who must mend it."""

    __tablename__ = "failed_connection"
    id: str = Field(default_factory=new_id("flc"), primary_key=True)
    at: dt.datetime = Field(sa_type=UTCDateTime)
    protocol: str = Field(max_length=12, description="sftp | sftp_legacy | ftps")
    address_id: str = Field(max_length=40, description="personal_value of the source address, kind failed_from")
    client_id: str | None = Field(default=None, max_length=40, description="The one client whose networks hold it")
    user_name: str = Field(default="", max_length=64, description="As it was given")
    code: str = Field(max_length=40)
    cause: str = Field(max_length=1000)
    banner: str = Field(default="", max_length=255, description="What the client calls itself")
    __table_args__ = (
        sa.Index("ix_failed_connection_at", "at"),
        sa.Index("ix_failed_connection_client", "client_id", "id"),
    )


class FolderManifest(SQLModel, table=True):
    """The signed list of a folder's numbers of one day. It never changes."""

    __tablename__ = "folder_manifest"
    folder_id: str = Field(primary_key=True, foreign_key="folder.id")
    day: str = Field(primary_key=True, max_length=10, description="YYYY-MM-DD in the issuer's zone")
    first_sequence: int = Field(sa_type=sa.BigInteger, description="The previous manifest's last, plus one")
    last_sequence: int = Field(sa_type=sa.BigInteger, description="Below the first: an empty day")
    json_sha256: str = Field(max_length=64)
    json_size: int = Field(sa_type=sa.BigInteger)
    signature_sha256: str = Field(max_length=64)
    signature_size: int = Field(sa_type=sa.BigInteger)
    mtime: int = Field(sa_type=sa.BigInteger, description="Unix seconds; rises from one to the next")
    made_at: dt.datetime = Field(sa_type=UTCDateTime)


class FolderMonth(SQLModel, table=True):
    """The list of a folder's numbers of a month that is over. It never changes."""

    __tablename__ = "folder_month"
    folder_id: str = Field(primary_key=True, foreign_key="folder.id")
    month: str = Field(primary_key=True, max_length=7, description="YYYY-MM in the issuer's zone")
    first_sequence: int = Field(sa_type=sa.BigInteger, description="The previous month's last, plus one")
    last_sequence: int = Field(sa_type=sa.BigInteger, description="Below the first: an empty month")
    sha256: str = Field(max_length=64)
    size: int = Field(sa_type=sa.BigInteger)
    mtime: int = Field(sa_type=sa.BigInteger, description="Unix seconds of its newest number")
    made_at: dt.datetime = Field(sa_type=UTCDateTime)
