"""Every table, imported in one place so that the MetaData is whole."""

from .columns import metadata
from .deliveries import Attempt, Delivery
from .documents import Document, Duplicate, Seal
from .folders import (
    Entry,
    FailedConnection,
    Folder,
    FolderContract,
    FolderDirectory,
    FolderEvent,
    FolderManifest,
    FolderMonth,
    FolderSession,
    LegacyPermit,
    SshKey,
)
from .history import HistoryFile
from .ledger import PersonalValue, Record
from .parties import (
    ApiToken,
    Client,
    Company,
    CompanyHolding,
    Contract,
    ContractHolding,
    DeliverySettings,
    FutureSubscription,
    IdempotencyKey,
    Mailbox,
    OriginalChannel,
    Subscription,
    User,
    UserRight,
)
from .sandbox import SandboxDirectory, SandboxFile, SandboxLeftover, SandboxTest

__all__ = [
    "ApiToken",
    "Attempt",
    "Client",
    "Company",
    "CompanyHolding",
    "Contract",
    "ContractHolding",
    "Delivery",
    "DeliverySettings",
    "Document",
    "Duplicate",
    "Entry",
    "FailedConnection",
    "Folder",
    "FolderContract",
    "FolderDirectory",
    "FolderEvent",
    "FolderManifest",
    "FolderMonth",
    "FolderSession",
    "FutureSubscription",
    "HistoryFile",
    "IdempotencyKey",
    "LegacyPermit",
    "Mailbox",
    "OriginalChannel",
    "PersonalValue",
    "Record",
    "SandboxDirectory",
    "SandboxFile",
    "SandboxLeftover",
    "SandboxTest",
    "Seal",
    "SshKey",
    "Subscription",
    "User",
    "UserRight",
    "metadata",
]
