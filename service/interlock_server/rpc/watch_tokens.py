"""Resume tokens of watches: a place in the order of events, bound to a filter."""

from __future__ import annotations

import base64
import binascii
import struct
from hashlib import blake2b

from google.protobuf.message import Message

from interlock_server.core.errors import InvalidArgumentError
from interlock_server.core.watching import Token
from interlock_server.storage.event_order import Epoch, Place

_FORM = struct.Struct(">B8sIqqiqq")
_VERSION = 1
_FIELD = "resume_token"


class WatchTokens:
    """Makes and reads the tokens of one filter."""

    def __init__(self, watched: Message) -> None:
        content = watched.SerializeToString(deterministic=True)
        self._made_for = blake2b(content, digest_size=8).digest()

    def write(self, token: Token) -> str:
        """Make a token's text."""
        epoch, place = token.epoch, token.place
        packed = _FORM.pack(
            _VERSION,
            self._made_for,
            epoch.number,
            epoch.began,
            place.position,
            place.ordinal,
            token.time,
            token.since,
        )
        return base64.urlsafe_b64encode(packed).decode()

    def read(self, text: str) -> Token | None:
        """Read a request's token; None: it has none. Raises InvalidArgumentError."""
        if not text:
            return None
        try:
            packed = base64.b64decode(text.encode(), b"-_", validate=True)
        except (ValueError, binascii.Error):
            packed = b""
        if len(packed) != _FORM.size or packed[0] != _VERSION:
            raise InvalidArgumentError(_FIELD, "This is no token of a watch.")
        _, made_for, number, began, position, ordinal, time, since = _FORM.unpack(packed)
        if made_for != self._made_for:
            raise InvalidArgumentError(
                _FIELD,
                "The token is of another filter: keep the filter, or begin without a token.",
            )
        return Token(Epoch(number, began), Place(position, ordinal), time, since)
