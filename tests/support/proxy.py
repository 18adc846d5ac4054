"""Proxies that cut and stall connections; the one in front of PostgreSQL also exactly at COMMIT.

They pass bytes on as they come. Of PostgreSQL's protocol one knows just the frame: a type byte, a
length, a body; and that a statement comes as Query (`Q`, its text in the body) or is prepared by
Parse (`P`). Interlock's writer sends COMMIT as a Query; its readers never do.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from enum import Enum
from typing import Self

from sqlalchemy import make_url

_COMMIT = re.compile(rb"commit\b", re.IGNORECASE)


class Cut(Enum):
    """When a connection is cut that is about to commit."""

    BEFORE_COMMIT = 1
    """The server never hears of the COMMIT: nothing is written."""
    AFTER_COMMIT = 2
    """The server commits, the client never hears of it."""


class Proxy:
    """Passes connections on to one server, on a loopback port of its own.

    Lives in the event loop that enters it.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._flowing.set()
        self.cut_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut_all(self) -> None:
        """Cut all connections now, as a network that resets them."""
        for connection in list(self._connections):
            connection.cut()

    def abandon_all(self) -> None:
        """Cut all clients off, and leave the server with connections on which nothing comes."""
        for connection in list(self._connections):
            connection.abandon()

    def stall(self) -> None:
        """Pass nothing on any more, in both directions, and let no one know: a black hole."""
        self._flowing.clear()

    def go_on(self) -> None:
        """End a stall. What was held back is passed on."""
        self._flowing.set()

    async def flowing(self) -> None:
        """Wait until bytes may pass."""
        await self._flowing.wait()

    def take_cut(self, frames: _Frames, data: bytes) -> Cut | None:
        """Answer how a connection is to be cut that sends these bytes; None: not at all."""
        return None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.close()
            return
        connection = _Connection(self, (reader, writer), (upstream_reader, upstream_writer))
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


class PostgresqlProxy(Proxy):
    """A proxy in front of a PostgreSQL."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        assert self._url.host
        assert self._url.port
        super().__init__(self._url.host, self._url.port)
        self._cuts: list[Cut] = []
        self.cuts = 0
        """How many connections were cut at COMMIT."""
        self.was_cut = asyncio.Event()
        """Set when all cuts that were asked for have been made."""

    @property
    def url(self) -> str:
        """The database's URL, through the proxy."""
        return self._url.set(host="127.0.0.1", port=self.port).render_as_string(hide_password=False)

    def cut_at_commit(self, cut: Cut, times: int = 1) -> None:
        """Cut the next connections that send a COMMIT; replaces what was asked before."""
        self._cuts = [cut] * times
        self.was_cut.clear()

    def take_cut(self, frames: _Frames, data: bytes) -> Cut | None:
        """See `Proxy.take_cut`: at COMMIT, where it was asked for."""
        if not any(map(_is_commit, frames.feed(data))) or not self._cuts:
            return None
        self.cuts += 1
        cut = self._cuts.pop(0)
        if not self._cuts:
            self.was_cut.set()
        return cut


_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """One client's connection and the one to the server that serves it."""

    def __init__(self, proxy: Proxy, client: _Ends, server: _Ends) -> None:
        self._proxy = proxy
        self._client_reader, self._client_writer = client
        self._server_reader, self._server_writer = server
        self._swallowing = False
        self._abandoned = False
        self._cut = asyncio.Event()

    async def run(self) -> None:
        """Pass bytes on until one side ends."""
        directions = [
            asyncio.create_task(self._from_client()),
            asyncio.create_task(self._from_server()),
        ]
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        if self._abandoned:
            await self._cut.wait()
        self.cut()
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)

    def cut(self) -> None:
        """Reset both sides."""
        self._cut.set()
        for writer in (self._client_writer, self._server_writer):
            writer.transport.abort()

    def abandon(self) -> None:
        """Reset the client's side alone."""
        self._abandoned = True
        self._client_writer.transport.abort()

    async def _from_client(self) -> None:
        frames = _Frames()
        with suppress(OSError):
            while data := await self._client_reader.read(65536):
                await self._proxy.flowing()
                if cut := self._proxy.take_cut(frames, data):
                    if cut is Cut.BEFORE_COMMIT:
                        return
                    self._swallowing = True
                self._server_writer.write(data)
                await self._server_writer.drain()

    async def _from_server(self) -> None:
        with suppress(OSError):
            while data := await self._server_reader.read(65536):
                await self._proxy.flowing()
                if self._swallowing:
                    # The server has answered the COMMIT: it is done, and nobody is told.
                    return
                self._client_writer.write(data)
                await self._client_writer.drain()


class _Frames:
    """Cuts what a client sends into messages. Its first one, the startup message, has no type."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._started = False

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take bytes; answer the messages that are complete now, as type and body."""
        self._buffer += data
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def _next(self) -> tuple[int, bytes] | None:
        typed = 1 if self._started else 0
        if len(self._buffer) < typed + 4:
            return None
        size = typed + int.from_bytes(self._buffer[typed : typed + 4], "big")
        if len(self._buffer) < size:
            return None
        type_ = self._buffer[0] if typed else 0
        body = bytes(self._buffer[typed + 4 : size])
        del self._buffer[:size]
        # A request for encryption is answered, and then comes the startup message.
        self._started = self._started or body[:4] == b"\x00\x03\x00\x00"
        return type_, body


def _is_commit(message: tuple[int, bytes]) -> bool:
    type_, body = message
    return type_ == ord("Q") and bool(_COMMIT.match(body))
