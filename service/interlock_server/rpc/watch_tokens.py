"""Resume tokens of watches: a place in the order of events, bound to a filter."""

from __future__ import annotations

from google.protobuf.message import Message

from interlock_server.core.watching import Token
from interlock_server.rpc.resume_tokens import ResumeTokens
from interlock_server.storage.event_order import Epoch, Place


class WatchTokens:
    """Makes and reads the tokens of one filter."""

    def __init__(self, watched: Message) -> None:
        other = "filter: keep the filter, or begin without a token"
        self._tokens = ResumeTokens(watched, "Iqqiqq", "watch", other)

    def write(self, token: Token) -> str:
        """Make a token's text."""
        epoch, place = token.epoch, token.place
        return self._tokens.write(
            epoch.number, epoch.began, place.position, place.ordinal, token.time, token.since
        )

    def read(self, text: str) -> Token | None:
        """Read a request's token; None: it has none. Raises InvalidArgumentError."""
        if (values := self._tokens.read(text)) is None:
            return None
        number, began, position, ordinal, time, since = values
        return Token(Epoch(number, began), Place(position, ordinal), time, since)
