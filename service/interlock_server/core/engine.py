"""The engine: one database, its commit pipeline, and who waits for news of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from interlock_server.core.input_checks import InputChecks
from interlock_server.core.logs.news import LogNews
from interlock_server.core.logs.search import search_threads
from interlock_server.core.watching import Watches
from interlock_server.storage.database import Database
from interlock_server.storage.facts import Facts
from interlock_server.storage.pipeline import Pipeline


class Engine:
    """What the services work with. Started once its database's schema can be served."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._listeners: list[Callable[[Facts], None]] = []
        self.pipeline = Pipeline(database, self._committed)
        self.input_checks = InputChecks()
        self.search_threads = search_threads()
        self.draining = asyncio.Event()
        """Set when the server goes away: long streams end."""
        self.hints = database.hints()
        self.watches = Watches(database, self.hints, self.draining)
        self.log_news = LogNews(database, self.hints)
        self.on_commit(self.log_news.committed)
        self.on_commit(self.watches.committed)

    def on_commit(self, listener: Callable[[Facts], None]) -> None:
        """Have a function told of each batch that this process commits. It must be quick."""
        self._listeners.append(listener)

    def _committed(self, facts: Facts) -> None:
        for listener in self._listeners:
            listener(facts)

    def start(self) -> None:
        """Take calls. May be called twice."""
        self.pipeline.start()
        self.hints.start()

    def drain(self) -> None:
        """Tell long streams to end. May be called twice."""
        self.draining.set()
        self.log_news.wake_all()
        self.watches.wake_all()

    async def stop(self) -> None:
        """Commit what is queued, and let go of the database. May be called twice."""
        self.drain()
        await self.pipeline.stop()
        self.input_checks.stop()
        self.search_threads.shutdown(wait=False, cancel_futures=True)
        await self.hints.stop()
        await self.database.close()
