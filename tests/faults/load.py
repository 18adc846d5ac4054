"""Clients that work on a server, whatever happens to it, and note what they see in a history.

All use the client as a worker does, and rely on it to carry on. Only the producers of logs speak
the protocol themselves, so that each acknowledgement is seen.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from interlock import AsyncClient, InterlockError
from interlock.ids import uuid7
from interlock.v1.flow_run_pb2 import FlowRun
from interlock.v1.state_pb2 import (
    STATE_TYPE_COMPLETED,
    STATE_TYPE_FAILED,
    STATE_TYPE_PENDING,
    STATE_TYPE_RUNNING,
    Decision,
    Proposal,
    StateDraft,
    StateType,
    Verdict,
)

from tests.faults.history import Answer, History
from tests.faults.producer import Producer

PATIENCE = 60.0
"""Seconds that a client goes on trying: longer than any fault of a test lasts."""

_PLAIN = (STATE_TYPE_RUNNING, STATE_TYPE_COMPLETED)
_WITH_RETRY = (
    STATE_TYPE_RUNNING,
    STATE_TYPE_FAILED,
    STATE_TYPE_RUNNING,
    STATE_TYPE_PENDING,
    STATE_TYPE_COMPLETED,
)
"""A failure that becomes AwaitingRetry, a second try, and a proposal that is aborted on the way."""

_CONTESTED = (STATE_TYPE_RUNNING, STATE_TYPE_PENDING)
"""What all clients propose for the one run that they fight over."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How many clients of each kind there are, and what each has to do."""

    setters: int = 16
    runs: int = 6
    """How many flow runs each setter takes through their states, one call a proposal."""
    batchers: int = 2
    task_runs: int = 60
    """How many task runs each batcher takes through their states, all in one call."""
    producers: int = 4
    batches: int = 60
    lines: int = 10


SHORT = Amount()
LONG = Amount(runs=150, task_runs=800, batches=1500)


class Load:
    """The clients of one test."""

    def __init__(self, target: str, history: History, amount: Amount = SHORT) -> None:
        self._target = target
        self._history = history
        self._amount = amount
        self._milestones: list[tuple[int, asyncio.Event]] = []

    async def run(self) -> None:
        """Work until all is done and answered."""
        amount = self._amount
        async with AsyncClient(self._target, timeout=PATIENCE) as client:
            flow = await client.create_flow("load")
            contested = await client.create_flow_run(flow, run_id=uuid7())
            parent = await client.create_flow_run(flow, run_id=uuid7())
            await self._set_flow_run(client, "parent", parent.id, STATE_TYPE_RUNNING)
            async with asyncio.TaskGroup() as group:
                for i in range(amount.setters):
                    group.create_task(self._setter(f"setter-{i}", flow.id, contested.id))
                for i in range(amount.batchers):
                    group.create_task(self._batcher(f"batcher-{i}", parent))
                for i in range(amount.producers):
                    # Two write to each log, so that their lines mix.
                    log = (contested, parent)[i % 2].id
                    producer = Producer(self._history, log, on_progress=self._note)
                    group.create_task(
                        producer.run(self._target, amount.batches, amount.lines, PATIENCE)
                    )

    async def reaches(self, share: float) -> None:
        """Wait until a share of the work, from 0 to 1, is done."""
        event = asyncio.Event()
        self._milestones.append((int(share * self._size), event))
        self._note()
        await event.wait()

    @property
    def _size(self) -> int:
        """How much progress there will be, about."""
        amount = self._amount
        proposals = amount.setters * amount.runs * len(_PLAIN) + amount.batchers * amount.task_runs
        return proposals + amount.producers * amount.batches

    def _note(self) -> None:
        progress = self._history.progress if self._milestones else 0
        for milestone, event in self._milestones:
            if progress >= milestone:
                event.set()

    async def _setter(self, name: str, flow_id: str, contested: str) -> None:
        async with AsyncClient(self._target, timeout=PATIENCE, proposed_by=name) as client:
            for i in range(self._amount.runs):
                run_id = uuid7()
                await client.create_flow_run(flow_id, run_id=run_id, retries=1)
                for type_ in _WITH_RETRY if i % 3 == 0 else _PLAIN:
                    await self._set_flow_run(client, name, run_id, type_)
                await self._set_flow_run(client, name, contested, _CONTESTED[i % 2])

    async def _set_flow_run(
        self, client: AsyncClient, name: str, run_id: str, type_: StateType.ValueType
    ) -> None:
        proposal_id = uuid7()
        self._history.proposed(name, proposal_id, run_id)
        decision = await client.set_flow_run_state(
            run_id, StateDraft(type=type_), proposal_id=proposal_id
        )
        self._history.answered(proposal_id, answer_of(decision))
        self._note()

    async def _batcher(self, name: str, parent: FlowRun) -> None:
        async with AsyncClient(self._target, timeout=PATIENCE, proposed_by=name) as client:
            requests = [
                client.new_task_run(name, flow_run=parent, dynamic_key=str(i), run_id=uuid7())
                for i in range(self._amount.task_runs)
            ]
            for made in await client.create_task_runs(requests):
                assert isinstance(made, str), made
            for type_ in (STATE_TYPE_RUNNING, STATE_TYPE_COMPLETED):
                proposals = [
                    Proposal(id=uuid7(), run_id=request.id, state=StateDraft(type=type_))
                    for request in requests
                ]
                for proposal in proposals:
                    self._history.proposed(name, proposal.id, proposal.run_id)
                decisions = await client.set_task_run_states(proposals)
                for proposal, decision in zip(proposals, decisions, strict=True):
                    assert not isinstance(decision, InterlockError), decision
                    self._history.answered(proposal.id, answer_of(decision))
                self._note()


def answer_of(decision: Decision) -> Answer:
    """Note a decision in the history's words."""
    return Answer(verdict_word(decision.verdict), decision.state.id)


def verdict_word(verdict: Verdict.ValueType) -> str:
    """Say a verdict in one word, as ACCEPT."""
    return Verdict.Name(verdict).removeprefix("VERDICT_")
