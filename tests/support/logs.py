"""Appending to logs and reading them in a few words."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from interlock.ids import uuid7
from interlock.v1 import log_pb2 as pb

from tests.support.stubs import Stubs


def record_batch(run_id: str, *messages: str, number: int, **columns: Any) -> pb.AppendLogsRequest:
    """A batch of records; `columns` are fields of LogColumns, and `end_of_run`."""
    end_of_run = columns.pop("end_of_run", False)
    batch = pb.AppendLogsRequest(number=number, run_id=run_id, end_of_run=end_of_run)
    if messages:
        columns.setdefault("base_time", {"seconds": 1_700_000_000})
        batch.records.CopyFrom(pb.LogColumns(messages=messages, **columns))
    return batch


def log_call(run_id: str, *messages: str, id: str = "", **columns: Any) -> pb.WriteLogsRequest:  # noqa: A002
    """A call of records; `columns` are fields of LogColumns."""
    records = record_batch(run_id, *messages, number=1, **columns).records
    return pb.WriteLogsRequest(id=id or uuid7(), run_id=run_id, records=records)


@dataclass(frozen=True)
class Appended:
    """What the server said to a stream of batches."""

    durable_before: int
    acknowledged: int
    refused: list[pb.RefusedLogBatch]


def append(stubs: Stubs, producer_id: str, batches: Iterable[pb.AppendLogsRequest]) -> Appended:
    """Send batches on a stream of their own, until all are acknowledged."""
    hello = pb.AppendLogsRequest(producer_id=producer_id)
    answers = list(stubs.logs.AppendLogs(iter([hello, *batches])))
    refused = [batch for answer in answers for batch in answer.refused]
    return Appended(answers[0].acknowledged, answers[-1].acknowledged, refused)


def read_log(stubs: Stubs, run_id: str, **request: Any) -> list[pb.LogRecord]:
    """All of a log that meets a request, page by page."""
    found: list[pb.LogRecord] = []
    token = ""
    while True:
        page = stubs.logs.ListLogs(pb.ListLogsRequest(run_id=run_id, page_token=token, **request))
        found += page.records
        token = page.next_page_token
        if not token:
            return found


def messages_of(records: Iterable[pb.LogRecord]) -> list[str]:
    """The records' messages."""
    return [record.message for record in records]
