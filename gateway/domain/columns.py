"""Column types that mean the same on SQLite and PostgreSQL, and the one MetaData of every table."""

import datetime as dt
import enum
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator
from sqlmodel import SQLModel

from .. import clock

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = SQLModel.metadata


class UTCDateTime(TypeDecorator[dt.datetime]):
    """An instant; naive datetimes are refused. SQLite keeps it as text in UTC, which sorts."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:
        """UTC in."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a time zone")
        return value.astimezone(dt.UTC)

    def process_result_value(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:
        """UTC out; SQLite forgot the zone."""
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


class Amount(TypeDecorator[Decimal]):
    """Money to four decimals, kept as a scaled integer: SQLite has no decimals, and amounts are compared."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: sa.Dialect) -> int | None:
        """Ten-thousandths; more decimals are refused."""
        if value is None:
            return None
        scaled = value * 10_000
        if scaled != scaled.to_integral_value():
            raise ValueError("an amount has at most four decimals")
        return int(scaled)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> Decimal | None:
        """Back to a Decimal; trailing zeros beyond two decimals are dropped."""
        if value is None:
            return None
        amount = Decimal(value) / 10_000
        return amount.quantize(Decimal("0.01")) if amount == amount.quantize(Decimal("0.01")) else amount


JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def word(kind: type[enum.StrEnum]) -> sa.Enum:
    """A column of one of our words: text with a CHECK, so that no migration of a native type is ever needed."""
    return sa.Enum(
        kind,
        native_enum=False,
        length=24,
        values_callable=lambda words: [w.value for w in words],
        create_constraint=True,
        name=kind.__name__.lower(),
    )


def new_id(prefix: str) -> Any:
    """A default_factory for primary keys."""
    return lambda: clock.new_id(prefix)
