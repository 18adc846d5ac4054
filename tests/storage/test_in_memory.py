"""The other way to ask for a database in memory; the first one is a dialect of the whole suite."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.runs import RUNNING, FlowRuns, make_flow, make_flow_run, proposal
from tests.support.servers import ServerProcess
from tests.support.stubs import connected


@pytest.mark.parametrize(
    "url", ["sqlite+aiosqlite://", "sqlite://", "sqlite+aiosqlite:///:memory:"]
)
def test_a_plain_url_is_a_database_in_memory_that_serves_many_at_once(url: str) -> None:
    with ServerProcess(url) as server, connected(server.target) as stubs:
        flow = make_flow(stubs)
        runs = FlowRuns(stubs)

        def work(_: int) -> int:
            run = make_flow_run(stubs, flow.id)
            runs.propose(proposal(run.id, RUNNING))
            return len(runs.page(filter={"flow_ids": [flow.id]}, page_size=1000)[0])

        with ThreadPoolExecutor(16) as pool:
            counts = list(pool.map(work, range(32)))
        assert runs.count(state_types=[RUNNING]) == 32
        assert max(counts) == 32
