"""Column types that both dialects know, each in its best form."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CHAR, LargeBinary, Uuid
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine


def id_to_bytes(text: str) -> bytes:
    """Turn an id into the 16 bytes of its UUID."""
    return bytes.fromhex(text.replace("-", ""))


def id_from_bytes(value: bytes) -> str:
    """Turn the 16 bytes of a UUID into an id."""
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class IdType(TypeDecorator[str]):
    """A UUID, text in Python: a native one where the database has them, else 16 bytes."""

    impl = CHAR(36)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the database's own type."""
        if dialect.supports_native_uuid:
            return dialect.type_descriptor(Uuid(as_uuid=False))
        return dialect.type_descriptor(LargeBinary(16))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        """Turn the id into what the database keeps."""
        if value is None or dialect.supports_native_uuid:
            return value
        return id_to_bytes(value)

    def process_literal_param(self, value: str | None, dialect: Dialect) -> str:
        """Write an id into a statement, where there are more ids than variables."""
        if value is None:
            return "NULL"
        return f"'{value}'" if dialect.supports_native_uuid else f"x'{id_to_bytes(value).hex()}'"

    def literal_processor(self, dialect: Dialect) -> Any:
        """Leave the work to `process_literal_param`."""
        return lambda value: self.process_literal_param(value, dialect)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """Turn what the database keeps into the id."""
        if value is None or dialect.supports_native_uuid:
            text: str | None = value
            return text
        return id_from_bytes(value)
