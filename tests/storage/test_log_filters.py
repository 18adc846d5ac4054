"""Lists and tails of the records with a text, or of some loggers."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from interlock.ids import uuid7
from interlock.v1 import log_pb2 as pb

from tests.support.logs import append, messages_of, read_log, record_batch
from tests.support.runs import COMPLETED, RUNNING, FlowRuns, make_flow_run, proposal
from tests.support.servers import ServerProcess
from tests.support.stubs import Stubs, connected

MESSAGES = ["load a", "LOAD b", "load\nc", "store a", "e\0nd"]
LOGGERS = ["job", "job.step", "jobs", ""]


@pytest.fixture(scope="module")
def run_id(stubs: Stubs) -> str:
    """A finished run with each of the messages."""
    run = make_flow_run(stubs, state={"type": RUNNING})
    indexes = {"loggers": LOGGERS, "logger_indexes": [0, 1, 2, 3, 1]}
    batch = record_batch(run.id, *MESSAGES, number=1, end_of_run=True, **indexes)
    append(stubs, uuid7(), [batch])
    FlowRuns(stubs).propose(proposal(run.id, COMPLETED))
    return run.id


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"text": {"substring": "load"}}, [0, 2]),
        ({"text": {"substring": "LoAd", "ignore_case": True}}, [0, 1, 2]),
        ({"text": {"substring": "e\0n"}}, [4]),
        ({"text": {"regex": "^c$"}}, [2]),
        ({"text": {"regex": r"\b[ab]$"}}, [0, 1, 3]),
        ({"text": {"regex": "x*"}}, [0, 1, 2, 3, 4]),
        ({"text": {"regex": "^LO|STO", "ignore_case": True}}, [0, 1, 2, 3]),
        ({"loggers": ["job"]}, [0, 1, 4]),
        ({"loggers": ["job.step", "jobs"]}, [1, 2, 4]),
        ({"loggers": ["job"], "text": {"substring": "a"}}, [0]),
        ({"loggers": ["nobody"]}, []),
    ],
)
def test_text_and_loggers_choose_records(
    stubs: Stubs, run_id: str, wanted: dict[str, object], expected: list[int]
) -> None:
    made = pb.LogFilter(**wanted)  # type: ignore[arg-type]
    tail = stubs.logs.TailLogs(pb.TailLogsRequest(run_id=run_id, filter=made), timeout=60)
    followed = [record for part in tail for record in part.records]
    listed = read_log(stubs, run_id, filter=made, page_size=2)
    assert listed == followed
    assert messages_of(listed) == [MESSAGES[place] for place in expected]
    backwards = read_log(stubs, run_id, filter=made, page_size=1, descending=True)
    assert backwards == listed[::-1]


def test_a_pattern_that_takes_long_does_not_hold_up_others() -> None:
    # Its automaton is too large for RE2, which does without one then.
    slow = pb.LogFilter(text=pb.TextPattern(regex=r"(\w{1,20}\s?){40}Z$"))
    draw = random.Random(1)
    lines = ["".join(draw.choices("abcdef 012345", k=120)) for _ in range(600)]
    with ServerProcess() as server, connected(server.target) as stubs:
        run = make_flow_run(stubs, state={"type": RUNNING})
        append(stubs, uuid7(), [record_batch(run.id, *lines, number=1, end_of_run=True)])
        FlowRuns(stubs).propose(proposal(run.id, COMPLETED))

        def took(call: Callable[[], object]) -> float:
            began = time.perf_counter()
            call()
            return time.perf_counter() - began

        def one_record() -> object:
            return stubs.logs.ListLogs(pb.ListLogsRequest(run_id=run.id, page_size=1))

        for looking in (
            lambda: read_log(stubs, run.id, filter=slow),
            lambda: list(stubs.logs.TailLogs(pb.TailLogsRequest(run_id=run.id, filter=slow))),
        ):
            others = []
            with ThreadPoolExecutor() as pool:
                looked = pool.submit(took, looking)
                while not looked.done():
                    others.append(took(one_record))
            assert max(others) < looked.result() / 2
