"""What is told of logs whose chunks can not be read any more, and what goes on beside them."""

import grpc
import pytest
from grpc import StatusCode
from interlock.ids import uuid7
from interlock.v1 import log_pb2 as pb
from interlock_server.storage.dialects import open_database
from interlock_server.storage.tables import log_chunk
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support.logs import append, messages_of, read_log, record_batch
from tests.support.refusals import refusal_of, refused
from tests.support.runs import RUNNING, make_flow_run
from tests.support.servers import ServerProcess, server_on
from tests.support.stubs import Stubs, connected


async def damage(server: ServerProcess, run_id: str) -> None:
    """Overwrite the second chunk of a log."""
    database = open_database(server.database_url)
    chunk = log_chunk.c

    async def write(connection: AsyncConnection) -> None:
        second = update(log_chunk).where(chunk.run_id == run_id, chunk.first_ordinal == 1)
        await connection.execute(second.values(data=b"damaged"))
        await connection.commit()

    await database.read(write)
    await database.close()


def make_log(stubs: Stubs, word: str) -> str:
    run = make_flow_run(stubs, state={"type": RUNNING})
    batches = [record_batch(run.id, f"{word} {n}", number=n) for n in (1, 2, 3)]
    append(stubs, uuid7(), batches)
    return str(run.id)


@pytest.mark.parametrize("database", ["sqlite", "postgresql_18"])
async def test_a_damaged_chunk_is_named_and_passed_over_by_searches(
    database: str, request: pytest.FixtureRequest
) -> None:
    with (
        server_on(request, database, {"INTERLOCK_LOOPS": "false"}) as server,
        connected(server.target) as stubs,
    ):
        older, damaged, _ = (make_log(stubs, word) for word in ("a", "b", "c"))
        await damage(server, damaged)

        with pytest.raises(grpc.RpcError) as caught:
            read_log(stubs, damaged)
        refusal = refusal_of(caught.value)
        assert (refusal.code, refusal.reason) == (StatusCode.DATA_LOSS, "LOG_DAMAGED")
        assert f"The records 1 to 1 of the log of run {damaged} are damaged" in refusal.message
        with refused(StatusCode.DATA_LOSS, reason="LOG_DAMAGED"):
            list(stubs.logs.TailLogs(pb.TailLogsRequest(run_id=damaged)))
        assert messages_of(read_log(stubs, older)) == ["a 1", "a 2", "a 3"]

        wanted = pb.LogFilter(text=pb.TextPattern(regex="[0-9]"))
        asked = pb.SearchLogsRequest(filter=wanted, context_after=2)
        answers = list(stubs.logs.SearchLogs(asked))
        found = [each.record for answer in answers for each in answer.records]
        assert messages_of(found) == ["c 1", "c 2", "c 3", "b 1", "b 3", "a 1", "a 2", "a 3"]
        assert answers[-1].damaged_parts == 1
        assert answers[-1].end == pb.SEARCH_END_ALL_SEARCHED
