"""Resume tokens of streams: a place to go on from, bound to what was asked for."""

from __future__ import annotations

import base64
import binascii
import struct
from hashlib import blake2b
from typing import Any

from google.protobuf.message import Message

from interlock_server.core.errors import InvalidArgumentError

FIELD = "resume_token"
"""The field of requests that has them."""

_VERSION = 1


class ResumeTokens:
    """Makes and reads the tokens of one request, as texts of the values of a `struct` format."""

    def __init__(self, request: Message, form: str, thing: str, other: str) -> None:
        """Bind tokens to a request, without its token.

        `thing` says what they are tokens of, `other` what to do with one that is of another.
        """
        self._form = struct.Struct(f">B8s{form}")
        content = request.SerializeToString(deterministic=True)
        self._made_for = blake2b(content, digest_size=8).digest()
        self._thing, self._other = thing, other

    def write(self, *values: Any) -> str:
        """Make a token's text."""
        packed = self._form.pack(_VERSION, self._made_for, *values)
        return base64.urlsafe_b64encode(packed).decode()

    def read(self, text: str) -> tuple[Any, ...] | None:
        """Read a request's token; None: it has none. Raises InvalidArgumentError."""
        if not text:
            return None
        try:
            packed = base64.b64decode(text.encode(), b"-_", validate=True)
        except (ValueError, binascii.Error):
            packed = b""
        if len(packed) != self._form.size or packed[0] != _VERSION:
            raise self.refusal()
        _, made_for, *values = self._form.unpack(packed)
        if made_for != self._made_for:
            raise InvalidArgumentError(FIELD, f"The token is of another {self._other}.")
        return tuple(values)

    def refusal(self) -> InvalidArgumentError:
        """Make the error for what is no token."""
        return InvalidArgumentError(FIELD, f"This is no token of a {self._thing}.")
