"""What a worker logs is what is read back, however odd it is: by digests, on both databases."""

import hashlib
import logging
import math
from collections.abc import Iterable, Iterator

import pytest
from interlock import Client, InterlockHandler
from interlock.ids import uuid7
from interlock.logs import Line, LogWriter, records
from interlock.v1.log_pb2 import LogRecord

from tests.support.servers import ServerProcess

YEAR = 365 * 86_400 * 1_000_000
NOW = 1_700_000_000_000_000


@pytest.fixture(scope="module", params=["sqlite_file", "postgresql_18"])
def server(request: pytest.FixtureRequest) -> ServerProcess:
    server: ServerProcess = request.getfixturevalue(f"interlock_on_{request.param}")
    return server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.target) as client:
        yield client


@pytest.fixture
def run_id(client: Client) -> str:
    return client.create_flow_run(client.create_flow(uuid7())).id


@pytest.fixture(autouse=True)
def _nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_said", set())


def digest(lines: Iterable[tuple[object, ...]]) -> str:
    return hashlib.sha256("\x1e".join(map(repr, lines)).encode()).hexdigest()


def joined(log: Iterable[LogRecord]) -> Iterator[tuple[int, int, str, str]]:
    """The records of a log, those that were split in one piece again."""
    parts: list[str] = []
    for record in log:
        parts.append(record.message)
        if not record.continued:
            time_us = record.time.ToNanoseconds() // 1000
            yield time_us, record.level, record.logger, "".join(parts)
            parts = []


ODD_MESSAGES = [
    "",
    "\0",
    "a\0b\0",
    "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "one\r\ntwo\rthree\n",
    "\u2028\u2029\ufeff\ufffe\uffff",
    "é€😀\u0301 שלום",
    " leading and trailing ",
    "x" * (10 * 1024 * 1024),
    "€😀" * (1024 * 1024),
    "behind the long ones",
]


def test_odd_messages_come_back_whole_and_in_order(
    server: ServerProcess, client: Client, run_id: str
) -> None:
    lines = [Line(NOW + i, 20, "job", message) for i, message in enumerate(ODD_MESSAGES)]
    with LogWriter(server.target, close_timeout=60) as writer:
        for line in lines:
            writer.write(run_id, line)
    assert not writer.statistics.refused
    log = list(client.list_logs(run_id, page_size=5))
    assert len(log) > len(lines), "the long ones were split"
    assert digest(joined(log)) == digest(line[:4] for line in lines)


def test_odd_times_levels_and_loggers_are_kept_as_far_as_they_can(
    server: ServerProcess, client: Client, run_id: str, capfd: pytest.CaptureFixture[str]
) -> None:
    long = "n" * 2_000_000
    lines = [
        Line(NOW, 10, "a", "first"),
        Line(NOW - 50 * YEAR, 20, "a", "long ago"),
        Line(NOW + 5_000 * YEAR, 30, "b", "far away"),
        Line(NOW - 1, 0, "", "back again"),
        Line(10**30, 1000, long, "too much"),
        Line(-(10**30), -7, "\0\x1b", "too little"),
        *(Line(NOW, 20, f"{long[:5000]}{i}", "many long names") for i in range(1000)),
    ]
    cut = "n" * 997 + "…"
    first, last = -62_135_596_800_000_000, 253_402_300_799_999_999
    expected = [
        *(line[:4] for line in lines[:4]),
        (last, 100, cut, "too much"),
        (first, 0, "\0\x1b", "too little"),
        *((NOW, 20, cut, "many long names") for _ in range(1000)),
    ]
    with LogWriter(server.target, close_timeout=60) as writer:
        for line in lines:
            writer.write(run_id, line)
    assert not writer.statistics.refused
    assert digest(joined(client.list_logs(run_id, page_size=1000))) == digest(expected)
    said = capfd.readouterr().err
    for kind in ("years 1 to 9999", "beyond 0 to 100", "longer than 1,000 bytes"):
        assert said.count(kind) == 1


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_odd_records_of_logging_lose_nothing(
    server: ServerProcess, client: Client, run_id: str, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = InterlockHandler(server.target, run_id=run_id, max_spill_bytes=0)
    logger = logging.Logger("job")
    logger.addHandler(handler)
    task = client.create_task_run("load", flow_run=run_id)
    logger.info("%d things", "no")
    logger.info("%s", Unspeakable())
    logger.info(b"\xff".decode(errors="surrogateescape"))
    logger.info("once more \udc80")
    logger.info("of a task", extra={"task_run_id": task.id})
    logger.info("of no task", extra={"task_run_id": "the first one"})
    logger.info("nor of this", extra={"task_run_id": "\udc80"})
    for created in (math.nan, math.inf, -1e300, 1e300):
        record = logger.makeRecord("job", 20, __file__, 1, "when?", (), None)
        record.created = created
        handler.handle(record)
    logger.info("last", extra={"flow_run_id": "\udc80 no run"})
    logger.info("last")
    assert handler.flush(30)
    handler.close()
    log = list(client.list_logs(run_id))
    first, second, *others = [record.message for record in log]
    assert first.startswith("%d things (arguments ('no',)) [can not be formatted: TypeError(")
    assert second.startswith("%s (arguments <tuple whose repr raises RuntimeError>) [can not be")
    assert digest((each,) for each in others) == digest(
        (each,)
        for each in (
            "\\udcff",
            "once more \\udc80",
            "of a task",
            "of no task",
            "nor of this",
            *["when?"] * 4,
            "last",
        )
    )
    assert [record.message for record in log if record.task_run_id] == ["of a task"]
    assert handler.statistics.refused == 1, "that of no run"
    said = capfd.readouterr().err
    for kind in ("not UTF-8", "by what is no UUID: 'the first one'", "years 1 to 9999"):
        assert said.count(kind) == 1
