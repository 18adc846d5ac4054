"""Page tokens: where the last page ended, bound to the request that made it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from google.protobuf.message import Message

from interlock_server.core.errors import InvalidArgumentError
from interlock_server.rpc import fields, filters
from interlock_server.storage.filters import Order, Position, Query


def fingerprint(request: Message) -> str:
    """Tell a list request from others, whatever its page."""
    bound = type(request)()
    bound.CopyFrom(request)
    for field in ("page_token", "page_size"):
        bound.ClearField(field)
    content = bound.DESCRIPTOR.name.encode() + bound.SerializeToString(deterministic=True)
    return blake2b(content, digest_size=9).hexdigest()


def token(request: Message, position: Position) -> str:
    """Make the token of the page that comes after a position."""
    content = json.dumps([fingerprint(request), *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode()


def token_or_none(request: Message, position: Position | None) -> str:
    """Make the token of the next page; empty: there is none."""
    return "" if position is None else token(request, position)


def query(
    request: Any, readers: Mapping[str, filters.Reader], orders: Mapping[int, Order]
) -> Query:
    """Read what a list request asks for. Raises InvalidArgumentError."""
    order = orders.get(request.order_by)
    if order is None:
        raise InvalidArgumentError("order_by", f"There is no order {request.order_by}.")
    return Query(
        filters.read(request.filter, readers),
        order,
        position(request, order.kinds()),
        fields.page_size(request.page_size),
    )


def position(request: Message, kinds: tuple[type, ...]) -> Position | None:
    """Read a request's `page_token`; None: it asks for the first page.

    `kinds` are the types of the position's parts. Raises InvalidArgumentError for a token that was
    not made for this request.
    """
    given: str = request.page_token  # type: ignore[attr-defined]
    if not given:
        return None
    try:
        made_for, *parts = json.loads(base64.b64decode(given.encode(), b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise InvalidArgumentError("page_token", "This is no page token of this service.") from None
    if made_for != fingerprint(request):
        raise InvalidArgumentError(
            "page_token",
            "The token is from another request: keep filter and order, or begin without a token.",
        )
    if [type(part) for part in parts] != list(kinds) or not all(map(_storable, parts)):
        raise InvalidArgumentError("page_token", "This is no page token of this service.")
    if kinds[-1] is str:
        fields.id_("page_token", parts[-1])
    return tuple(parts)


def _storable(part: int | str) -> bool:
    if isinstance(part, int):
        return -(2**63) <= part < 2**63
    return "\x00" not in part and not any("\ud800" <= character <= "\udfff" for character in part)
