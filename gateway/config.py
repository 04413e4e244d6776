"""The settings: one frozen tree, read from a TOML file, overridden by the environment, explained by itself.

Order, strongest first: `GATEWAY__SECTION__KEY` in the environment, the file, the defaults below. Unknown
keys are refused. A relative path is taken from the folder of the file. `example()` prints the annotated
file from these classes; config/gateway.toml is that text, and a test holds the two together.
"""

import datetime as dt
import difflib
import ipaddress
import json
import os
import tomllib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from .errors import ConfigError

DEFAULT_PATHS = (Path("config/gateway.toml"), Path("/etc/gateway/gateway.toml"))
_MOST = 1_000_000

_folder: ContextVar[Path] = ContextVar("folder", default=Path())  # of the file being read


def _from_the_files_folder(path: Path) -> Path:
    return path if path.is_absolute() else _folder.get() / path


FilePath = Annotated[Path, AfterValidator(_from_the_files_folder)]
OptionalFilePath = Annotated[FilePath | None, BeforeValidator(lambda value: None if value == "" else value)]  # "": none


def _network(value: str) -> str:
    ipaddress.ip_network(value)
    return value


Network = Annotated[str, AfterValidator(_network)]


class Section(BaseModel):
    """One table of the file; its docstring is the table's heading in the example."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @pydantic.field_validator("*")
    @classmethod
    def _within_reason(cls, value: Any) -> Any:
        """A time or a size beyond this overflows somewhere else, in a running daemon."""
        if isinstance(value, int | float) and value > _MOST:
            raise ValueError(f"must be at most {_MOST}")
        return value


class IssuerSettings(Section):
    """[issuer] The company that invoices."""

    name: str = Field("Issuer", description="As clients read it in mails and on the portal.")
    sellers: tuple[str, ...] = Field(
        (), description="Sellers (BT-30) accepted at the intake: SIREN, or VAT number for a foreign one."
    )
    time_zone: str = Field("Europe/Paris", description="The zone of issue dates, periods and archive months.")
    terms_version: str = Field("1", description="Version of the terms that a new subscription consents to.")
    original_channel: Literal["gateway", "platform"] = Field(
        "gateway", description="Where originals go when a contract says nothing: platform = an approved platform."
    )

    @property
    def zone(self) -> ZoneInfo:
        """The issuer's time zone."""
        return ZoneInfo(self.time_zone)

    @pydantic.field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"no such time zone: {value!r}") from None
        return value


class StoreSettings(Section):
    """[store] Where rows and bytes are kept. These two URLs are all that changes beyond one machine."""

    directory: FilePath = Field(
        Path("var"), description="State directory: lock, socket, and with the defaults below everything else."
    )
    database: str = Field(
        "", description="SQLAlchemy URL; empty: SQLite in the state directory. postgresql+psycopg://… for more."
    )
    blobs: str = Field("", description="Empty: files in the state directory. s3://bucket/prefix?endpoint=… for more.")
    free_space_floor_percent: float = Field(
        5.0, ge=0, lt=100, description="Below this much free disk the intake answers: try again later."
    )
    reserve_megabytes: int = Field(
        256, ge=0, description="Kept in a file for receipts and log-ins, and let go when the disk is full. 0: none."
    )

    @pydantic.field_validator("database")
    @classmethod
    def _one_file_from_everywhere(cls, value: str) -> str:
        if value.startswith("sqlite") and not value.startswith("sqlite:////"):
            raise ValueError("a SQLite file has an absolute path here: sqlite:////var/lib/…")
        return value


class HttpSettings(Section):
    """[http] The operators' API. Plain HTTP listens on loopback and on a Unix socket only."""

    listen: str = Field("127.0.0.1:8080", description="host:port of the admin listener; loopback only. Port 0: any.")
    max_upload_megabytes: int = Field(64, gt=0, description="A request body over this is refused unread.")
    threads: int = Field(8, gt=0, description="Requests worked on at once.")
    queue: int = Field(200, gt=0, description="Requests waiting for a thread; beyond it: 503, try again.")


class SftpSettings(Section):
    """[sftp] The drop folders' SFTP listener, and the limits of all their listeners."""

    enabled: bool = Field(True, description="Serve drop folders over SFTP.")
    listen: str = Field("127.0.0.1:2022", description="host:port. Port 0: any.")
    host_keys: tuple[FilePath, ...] = Field(
        (), description="Private keys, OpenSSH format. Empty: Ed25519 and RSA keys made in the state directory."
    )
    passwords: bool = Field(
        False, description="Let a folder's password log in here too, for clients that have no keys; else FTPS only."
    )
    login_seconds: int = Field(20, gt=0, description="A connection that has not logged in by then is closed.")
    idle_minutes: int = Field(15, gt=0, description="A session without a request for this long is closed.")
    connections_before_login: int = Field(200, gt=0, description="Connections not yet logged in, in all.")
    connections_before_login_per_source: int = Field(10, gt=0, description="The same, from one address.")
    connections: int = Field(2000, gt=0, description="Connections in all.")
    connections_per_client: int = Field(16, gt=0, description="Connections of one client.")
    sessions_per_client: int = Field(32, gt=0, description="SFTP channels of one client, over all its connections.")
    handles_per_session: int = Field(256, gt=0, description="Files and listings open at once in one session.")
    write_buffer_megabytes: float = Field(
        4.0, ge=3.5, le=100, description="What one session may send ahead of what is written, over all its channels."
    )
    failures_per_minute: int = Field(
        5, gt=0, description="Failed log-ins of one source beyond this are answered later."
    )
    ban_after: int = Field(20, gt=1, description="So many, not yet forgotten, shut the source out.")
    ban_minutes: float = Field(10.0, gt=0, description="For this long.")
    safe_sources: tuple[Network, ...] = Field(
        (), description="Networks that are never shut out: 192.0.2.0/24, where many share an address."
    )
    longest_delay_seconds: int = Field(20, ge=0, description="No answer to a failed log-in is later than this.")
    failures_kept_days: float = Field(
        30.0, gt=0, le=36_500, description="Failed log-ins and negotiations are kept with their cause for so long."
    )
    failures_kept_per_source: int = Field(50, ge=0, description="Of one source, so many a day.")
    threads: int = Field(4, gt=0, description="Folder calls that need the database, worked on at once.")
    grace_seconds: int = Field(30, ge=0, description="At a stop, transfers may finish for this long.")


class SftpLegacySettings(Section):
    """[sftp_legacy] A second SFTP listener with old algorithms (SHA-1, CBC), for clients with a permit alone."""

    enabled: bool = Field(False, description="Listen; needs [sftp] enabled. Permits: gateway permit add CLIENT.")
    listen: str = Field("127.0.0.1:2023", description="host:port. Port 0: any.")
    permit_days: int = Field(90, gt=0, le=730, description="A permit ends at most so many days after it is given.")


class FtpsSettings(Section):
    """[ftps] The same drop folders over FTP with TLS, by password. Its limits of connections are those of [sftp]."""

    enabled: bool = Field(False, description="Serve drop folders over FTPS; needs a certificate.")
    listen: str = Field("127.0.0.1:2121", description="host:port for explicit TLS (AUTH TLS). Port 0: any.")
    listen_implicit: str = Field("", description="host:port for TLS from the first byte; empty: none.")
    certificate: OptionalFilePath = Field(None, description="PEM file: the server's certificate and its chain.")
    key: OptionalFilePath = Field(None, description="PEM file with its private key; empty: the certificate's file.")
    public_address: str = Field("", description="IPv4 address that PASV names, behind a NAT; empty: the own one.")
    passive_ports: str = Field("", description="first-last of the ports for data connections; empty: any.")
    session_reuse: Literal["off", "required"] = Field(
        "off",
        description="required: a data connection resumes the TLS session of its control connection, or is refused.",
    )
    confirm_seconds: float = Field(
        10.0, gt=0, description="A download counts as read only if the client ends its connection within this time."
    )

    @pydantic.field_validator("passive_ports")
    @classmethod
    def _range(cls, value: str) -> str:
        first, _, last = value.partition("-")
        if value and not (first.isdecimal() and last.isdecimal() and 1024 <= int(first) <= int(last) < 65536):
            raise ValueError("passive_ports is first-last, from 1024 to 65535: 40000-40099")
        return value

    @pydantic.field_validator("public_address")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            ipaddress.IPv4Address(value)
        return value


class IntakeSettings(Section):
    """[intake] How documents come in."""

    max_megabytes: float = Field(20.0, gt=0, description="A document over this is refused before it is read whole.")
    max_xml_megabytes: float = Field(10.0, gt=0, description="The same for the XML inside, decoded.")
    max_pages: int = Field(2000, gt=0, description="A document with more pages is refused.")
    max_days_ahead: int = Field(1, ge=0, description="An issue date further in the future is refused.")
    oldest_issue_date: dt.date = Field(dt.date(2000, 1, 1), description="An earlier issue date is refused.")
    profile: Literal["none", "xsd"] = Field("xsd", description="What the XML inside must pass.")
    workers: int = Field(2, gt=0, description="Processes that read documents.")
    worker_megabytes: int = Field(1024, ge=256, description="Memory limit of each.")
    deadline_seconds: float = Field(20.0, gt=0, description="Reading one document may take this long.")
    account_megabytes: float = Field(
        2000.0, gt=0, description="What may lie in the intake/ of one account of the billing system, refused files too."
    )
    account_files: int = Field(20_000, gt=0, description="The same as a number of files.")
    account_days: float = Field(
        30.0, gt=0, le=36_500, description="A file there that is unfinished or refused goes after so many days."
    )


class SpoolSettings(Section):
    """[spool] A folder that the billing system writes to, as in a maildir: tmp/, then a rename into new/."""

    enabled: bool = Field(True, description="Watch the spool.")
    directory: FilePath = Field(Path("var/spool"), description="Holds tmp/ new/ work/ refused/ quarantined/.")
    scan_seconds: float = Field(10.0, gt=0, description="new/ is read at least this often.")
    batch: int = Field(50, gt=0, description="Documents accepted in one transaction at most.")


class SealSettings(Section):
    """[seal] The electronic seal (PAdES) on originals and platform copies."""

    certificate: OptionalFilePath = Field(
        None, description="PKCS#12 file with key, certificate and chain. Empty: documents wait."
    )
    password_file: OptionalFilePath = Field(None, description="File with its password; mode 0600.")
    level: Literal["B-B", "B-T"] = Field("B-B", description="B-T needs timestamp_url; nothing is sealed below this.")
    timestamp_url: str = Field("", description="RFC 3161 time-stamp authority, for B-T.")
    trust: tuple[FilePath, ...] = Field((), description="PEM files: roots that the seal's chain must end in.")
    issuer_certificates: tuple[FilePath, ...] = Field(
        (), description="PEM files: a document that arrives validly sealed by one of these is kept as it is."
    )
    verify_sample: int = Field(
        100, gt=0, description="One document in so many is also checked by the full validator; the first always."
    )
    reason: str = Field("Facture originale", description="Written into the seal.")
    workers: int = Field(2, gt=0, description="Processes that seal and verify.")
    deadline_seconds: float = Field(30.0, gt=0, description="Sealing one document may take this long.")
    batch: int = Field(64, gt=0, description="Documents sealed in one transaction at most.")


class MailSettings(Section):
    """[mail] Signed e-mail."""

    enabled: bool = Field(True, description="Send mail; false: mail deliveries stay planned.")
    from_address: str = Field("factures@gateway.example", description="From; the S/MIME certificate must hold it.")
    from_name: str = Field("Factures", description="Display name in From.")
    return_path_domain: str = Field("gateway.example", description="Domain of the envelope sender (VERP).")
    message_id_domain: str = Field("", description="Right side of Message-IDs; empty: the return path's domain.")
    verp_secret_file: OptionalFilePath = Field(None, description="At least 32 random bytes; mode 0600.")
    certificate: OptionalFilePath = Field(None, description="PKCS#12 file: S/MIME key, certificate and chain.")
    password_file: OptionalFilePath = Field(None, description="File with its password; mode 0600.")
    trust: tuple[FilePath, ...] = Field((), description="PEM files: roots that its chain must end in.")
    relay_host: str = Field("127.0.0.1", description="SMTP relay.")
    relay_port: int = Field(25, gt=0, lt=65536, description="Its port.")
    relay_tls: Literal["required", "off"] = Field(
        "required", description="STARTTLS, certificate verified. off is allowed on loopback only."
    )
    relay_ca: OptionalFilePath = Field(None, description="PEM roots for the relay; empty: the system's.")
    username: str = Field("", description="AUTH user; empty: no AUTH.")
    relay_password_file: OptionalFilePath = Field(None, description="File with the AUTH password; mode 0600.")
    hello_name: str = Field("", description="EHLO name; empty: the return path's domain.")
    max_attachment_megabytes: float = Field(7.0, gt=0, description="Over this, a document is not mailed: held.")
    connections: int = Field(5, gt=0, description="Messages on their way at once.")
    keep_message_days: int = Field(
        30, ge=0, le=36_500, description="A composed message is kept this long after its final state."
    )


class DeliverySettings(Section):
    """[delivery] How the outbox is emptied."""

    lease_seconds: int = Field(1200, gt=2, description="An attempt that was not ended by then is uncertain.")
    attempt_seconds: int = Field(720, gt=0, description="Deadline of one attempt; at most 2/3 of the lease.")
    retry_minutes: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1, 5, 15, 30, 60, 120, 240), description="Waits between attempts; the last one repeats.", min_length=1
    )
    retry_jitter_percent: float = Field(10.0, ge=0, lt=100, description="Each wait varies by this much.")
    give_up_hours: float = Field(72.0, gt=0, description="A mail delivery this old is failed at its next deferral.")
    publish_batch: int = Field(500, gt=0, le=500, description="Folder deliveries published in one transaction.")
    poll_seconds: float = Field(5.0, gt=0, description="Work is looked for at least this often.")

    @pydantic.model_validator(mode="after")
    def _attempt_within_the_lease(self) -> Self:
        if self.attempt_seconds > self.lease_seconds * 2 / 3:
            raise ValueError("attempt_seconds must be at most 2/3 of lease_seconds")
        return self


class FolderSettings(Section):
    """[folder] The drop folder's rules."""

    linger_minutes: float = Field(60.0, ge=0, description="A received name can still be opened for this long.")
    rename_return_hours: float = Field(
        24.0, gt=0, description="Renamed but not fully read within this: back under its own name."
    )
    inbox_days: float = Field(
        90.0,
        gt=0,
        le=36_500,
        description="What is not received by then leaves the inbox, with an alert; the archive keeps it.",
    )
    path_bytes: int = Field(4096, ge=512, le=65_536, description="A client's request for a longer path is refused.")
    directories: int = Field(
        100, ge=0, description="Folders that one client may make under its inbox, and under its sandbox."
    )
    again_documents: int = Field(
        1000, ge=1, le=10_000, description="Published documents that one request may ask for again."
    )
    again_documents_a_day: int = Field(
        10_000, ge=0, description="The same of one folder within 24 hours, by its client; an operator may ask for more."
    )
    index_megabytes: int = Field(
        64, ge=0, description="Memory for quick answers, of the folders used in the last hour together."
    )
    sandbox_megabytes: float = Field(
        100.0, ge=0, description="What one client may keep under sandbox/, over all its folders; 0: nothing."
    )
    sandbox_files: int = Field(1000, ge=0, description="The same as a number of files.")
    sandbox_days: float = Field(30.0, gt=0, le=36_500, description="A file in sandbox/ goes after so many days.")
    test_documents: int = Field(20, ge=0, le=100, description="Test documents that one request makes; 0: none.")
    test_documents_a_day: int = Field(200, ge=0, description="The same for one client within 24 hours.")


class LogSettings(Section):
    """[log] What the daemon says on standard error."""

    format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else JSON.")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is said.")


class Settings(BaseSettings):
    """The whole tree; every part of the daemon is given its own section."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="GATEWAY__",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
        validate_default=True,
    )

    issuer: IssuerSettings = Field(default_factory=dict, validate_default=True)
    store: StoreSettings = Field(default_factory=dict, validate_default=True)
    http: HttpSettings = Field(default_factory=dict, validate_default=True)
    sftp: SftpSettings = Field(default_factory=dict, validate_default=True)
    sftp_legacy: SftpLegacySettings = Field(default_factory=dict, validate_default=True)
    ftps: FtpsSettings = Field(default_factory=dict, validate_default=True)
    intake: IntakeSettings = Field(default_factory=dict, validate_default=True)
    spool: SpoolSettings = Field(default_factory=dict, validate_default=True)
    seal: SealSettings = Field(default_factory=dict, validate_default=True)
    mail: MailSettings = Field(default_factory=dict, validate_default=True)
    delivery: DeliverySettings = Field(default_factory=dict, validate_default=True)
    folder: FolderSettings = Field(default_factory=dict, validate_default=True)
    log: LogSettings = Field(default_factory=dict, validate_default=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment over what the file said (given as keyword arguments)."""
        return env_settings, init_settings


def find(path: Path | None) -> Path:
    """The file that `--config` names, else the first of DEFAULT_PATHS that exists; ConfigError when there is none."""
    candidates = (path,) if path is not None else DEFAULT_PATHS
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise ConfigError(
        f"no configuration file at {' nor '.join(map(str, candidates))}: `gateway init` writes one", where="--config"
    )


def load(path: Path) -> Settings:
    """The settings of a file; ConfigError says which key is wrong, what it holds and what it may hold."""
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", where=str(path)) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}", where=str(path)) from None
    _refuse_unknown_sections()
    token = _folder.set(path.absolute().parent)
    try:
        return Settings(**raw)
    except SettingsError as error:
        raise ConfigError(f"{error.args[0]}: its value is no JSON", where="environment") from None
    except pydantic.ValidationError as error:
        problems = [f"[{'.'.join(map(str, e['loc']))}] {_problem(e)}" for e in error.errors()]
        raise ConfigError(f"{path}: " + "; ".join(problems), where=problems[0].split("]")[0] + "]") from None
    finally:
        _folder.reset(token)


def _refuse_unknown_sections() -> None:
    """The settings library passes over variables of a section that it does not know, as if they worked."""
    for name in os.environ:
        prefix, _, rest = name.upper().partition("__")
        section = rest.partition("__")[0].lower()
        if prefix == "GATEWAY" and section not in Settings.model_fields:
            raise ConfigError(f"{name} in the environment: no such setting", where=name)


def _problem(error: Any) -> str:
    kind, place = error["type"], error["loc"]
    if kind == "extra_forbidden":
        return f"no such setting{_near(place)}"
    if kind == "model_type":
        return f"is a section: write [{place[0]}] on a line of its own, and its keys below"
    if kind == "tuple_type":
        message = 'should be a list, such as ["…", "…"]'
    else:
        message = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "should")
    # The URLs of the stores may hold a password: they are not repeated.
    quiet = isinstance(error["input"], dict) or not {"database", "blobs"}.isdisjoint(place)
    return message if quiet else f"{message} (it holds {error['input']!r})"


def _near(place: tuple[Any, ...]) -> str:
    """The setting that was probably meant by a misspelt one."""
    known: Any = Settings.model_fields
    if len(place) > 1:
        known = known[place[0]].annotation.model_fields
    meant = difflib.get_close_matches(str(place[-1]), known, 1)
    return f"; {meant[0]} was meant?" if meant else ""


def example() -> str:
    """The annotated configuration file, made from the classes of this module."""
    return "\n".join(_example_lines()) + "\n"


def _example_lines() -> Iterator[str]:
    yield "# The gateway's settings. Each line that is commented out shows a default."
    yield "# Relative paths start at the folder of this file. The environment wins: GATEWAY__MAIL__RELAY_PORT=2525"
    for name, field in Settings.model_fields.items():
        section = field.annotation
        assert isinstance(section, type) and issubclass(section, Section)
        heading = (section.__doc__ or "").splitlines()[0].split("] ", 1)[1]
        yield ""
        yield f"# {heading}"
        yield f"[{name}]"
        for key, value in section.model_fields.items():
            yield f"# {value.description}"
            yield f"#{key} = {_toml(value)}"


def _toml(field: FieldInfo) -> str:
    value = field.default
    if value is None:
        return '""  # none by default'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return json.dumps([str(v) if isinstance(v, Path) else v for v in value])
    if isinstance(value, dt.date | int | float):
        return str(value)
    return json.dumps(str(value), ensure_ascii=False)
