"""What is stored comes back as it was, on every dialect."""

import pytest

from tests.support.runs import (
    COMPLETED,
    RUNNING,
    SCHEDULED,
    FlowRuns,
    Runs,
    make_flow,
    make_flow_run,
    make_task_run,
    proposal,
    unique,
)
from tests.support.stubs import Stubs

JSON_TEXTS = {
    "whole numbers beyond 64 bits": '{"n": 9223372036854775808, "m": -9223372036854775809}',
    "very long numbers": f"[{'1234567890' * 50}, 0.{'1' * 100}]",
    "one and one point nought": '{"one": 1, "float": 1.0, "exponent": 1e0, "zero": -0.0}',
    "numbers too large for a float": "[1e400, -1E+999]",
    "key order": '{"b": 1, "a": 2, "": 3, "A": 4}',
    "spaces": ' {\n\t"a" :[ 1 ,2]\r\n} ',
    "escapes": r'{"nul": "\u0000", "half": "\ud800", "quote": "\"", "slash": "\/"}',
    "beyond ASCII": '{"日本": "😀 \u2028 \u00a0"}',
    "no object": "null",
    "the deepest": "[" * 100 + "]" * 100,
    "the longest": f'"{"x" * (1024 * 1024 - 2)}"',
}


@pytest.mark.parametrize("text", JSON_TEXTS.values(), ids=JSON_TEXTS.keys())
def test_json_comes_back_to_the_letter(stubs: Stubs, text: str) -> None:
    flow_run = make_flow_run(stubs, parameters_json=text)
    assert FlowRuns(stubs).get(flow_run.id).parameters_json == text
    assert make_task_run(stubs, inputs_json=text).inputs_json == text
    result = {"storage_key": "k", "metadata_json": text}
    details = {"run_input_keyset_json": text}
    sent = proposal(flow_run.id, RUNNING, result=result, details=details)
    answer = FlowRuns(stubs).propose(sent)
    assert answer.state.result.metadata_json == text
    assert answer.state.details.run_input_keyset_json == text
    assert FlowRuns(stubs).propose(sent) == answer


TEXTS = {
    "beyond the first plane": "naïve 日本語 😀 \U0010ffff",
    "noncharacters": "\ufffe\uffff\ue000",
    "control characters": "a\tb\r\nc\x01\x1b[31m\x7f\u0085\u2028",
    "quotes": """'; DROP TABLE flow; -- "\\ %s :x ? $1 {} [] """,
    "spaces around": "  x  ",
    "one decomposed, one composed": "e\u0301 \u00e9",
    "right to left": "\u202eabc\u202c שלום",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_texts_come_back_to_the_letter(stubs: Stubs, runs: Runs, text: str) -> None:
    name = unique("flow") + text
    flow = make_flow(stubs, name, tags=[text], labels={text: text})
    assert (flow.name, list(flow.tags), dict(flow.labels)) == (name, [text], {text: text})
    assert make_flow(stubs, name).id == flow.id

    run = runs.make(name=text, tags=[text], labels={text: text}, state={"type": RUNNING})
    runs.propose(proposal(run.id, COMPLETED, name=text[:20], message=text, proposed_by=text))
    now = runs.get(run.id)
    assert (now.name, list(now.tags), dict(now.labels)) == (text, [text], {text: text})
    assert (now.state.name, now.state.message) == (text[:20], text)
    assert runs.history(run.id)[-1].proposed_by == text
    assert runs.count(ids=[run.id], names=[text], state_names=[text[:20]]) == 1


def test_a_composed_and_a_decomposed_name_are_two(stubs: Stubs) -> None:
    word = unique("flow")
    assert make_flow(stubs, f"{word} \u00e9").id != make_flow(stubs, f"{word} e\u0301").id


def test_the_longest_texts_are_taken(stubs: Stubs, runs: Runs) -> None:
    longest = "é" * 250
    run = runs.make(name=longest, state={"type": RUNNING, "message": "m" * 65_536})
    now = runs.get(run.id)
    assert (now.name, now.state.message) == (longest, "m" * 65_536)
    # Keys are indexed, and random ones can not be squeezed.
    key = "".join(unique("") for _ in range(118))[:2000]
    make_task_run(stubs, task_key=key, dynamic_key=key[:500])
    flow_run = make_flow_run(stubs, idempotency_key=key)
    assert make_flow_run(stubs, flow_run.flow_id, idempotency_key=key).id == flow_run.id


TIMES = {
    "the first moment": (-62_135_596_800, 0),
    "before 1970": (-1, 999_999_000),
    "1970": (0, 0),
    "a microsecond": (1_700_000_000, 1_000),
    "the last microsecond": (253_402_300_799, 999_999_000),
}


@pytest.mark.parametrize("time", TIMES.values(), ids=TIMES.keys())
def test_times_come_back_to_the_microsecond(runs: Runs, time: tuple[int, int]) -> None:
    seconds, nanos = time
    moment = {"seconds": seconds, "nanos": nanos}
    details = {"scheduled_time": moment, "cache_expiration": moment, "pause_timeout": moment}
    run = runs.make(state={"type": SCHEDULED, "details": details})
    now = runs.get(run.id)
    for found in (
        now.expected_start_time,
        now.next_scheduled_start_time,
        now.state.details.scheduled_time,
        now.state.details.cache_expiration,
        now.state.details.pause_timeout,
    ):
        assert (found.seconds, found.nanos) == time
    listed, _ = runs.page(filter={"ids": [run.id]}, order_by=2)
    assert listed[0].expected_start_time == now.expected_start_time


def test_nanoseconds_are_cut_to_microseconds(runs: Runs) -> None:
    late = {"seconds": 5, "nanos": 999_999_999}
    run = runs.make(state={"type": SCHEDULED, "details": {"scheduled_time": late}})
    assert run.next_scheduled_start_time.nanos == 999_999_000


def test_ids_are_told_in_lower_case_however_they_were_given(runs: Runs) -> None:
    request = runs.creation()
    lower = request.id
    request.id = lower.upper()
    runs.create(request)
    assert runs.get(lower.upper()).id == lower
    assert runs.get(lower).id == lower
    sent = proposal(lower.upper(), RUNNING)
    assert runs.propose(sent).proposal_id == sent.id
    assert runs.count(ids=[lower.upper()]) == 1
