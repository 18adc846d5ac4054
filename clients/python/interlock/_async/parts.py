"""What the parts of the client have in common. A part is one service: one method an RPC.

The client inherits from each part, so that all methods are its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, Self, TypeVar

from interlock import values
from interlock._async import transport
from interlock._async.calls import Calls
from interlock.errors import InterlockError, from_item
from interlock.ids import uuid7
from interlock.v1.flow_run_pb2 import FlowRun
from interlock.v1.state_pb2 import Decision, Proposal, ProposalOutcome, StateDraft
from interlock.v1.task_run_pb2 import TaskRun
from interlock.values import Seconds, StateLike


class Part:
    """A part of the client."""

    _calls: Calls

    def with_timeout(self, timeout: Seconds) -> Self:
        """Answer this client with another time budget for its calls, on the same channel."""
        twin = copy.copy(self)
        twin._calls = self._calls.with_timeout(values.total_seconds(timeout))
        return twin

    @property
    def _stubs(self) -> transport.Stubs:
        return self._calls.stubs


class Outcomes(Protocol):
    """The answer to a batch of proposals, of either kind of run."""

    @property
    def outcomes(self) -> Iterable[ProposalOutcome]:
        """What became of each proposal, in their order."""


Q = TypeVar("Q")
OutcomesR = TypeVar("OutcomesR", bound=Outcomes)


class RunPart(Part):
    """A part for one kind of run: how states are proposed, which both kinds do alike."""

    _proposed_by: str

    def _proposal(
        self,
        run: FlowRun | TaskRun | str,
        state: StateDraft,
        *,
        force: bool = False,
        proposal_id: str = "",
    ) -> Proposal:
        return values.proposal(
            run,
            state,
            proposal_id=proposal_id or uuid7(),
            force=force,
            proposed_by=self._proposed_by,
        )

    async def _propose_all(
        self,
        method: transport.Method[Q, OutcomesR],
        proposals: Iterable[Proposal | tuple[FlowRun | TaskRun | str, StateLike]],
        request_of: Callable[[Sequence[Proposal]], Q],
    ) -> list[Decision | InterlockError]:
        complete = [self._complete(each) for each in proposals]
        return [
            from_item(outcome.error) if outcome.HasField("error") else outcome.decision
            async for answer in self._calls.batches(method, complete, request_of)
            for outcome in answer.outcomes
        ]

    def _complete(self, given: Proposal | tuple[FlowRun | TaskRun | str, StateLike]) -> Proposal:
        if isinstance(given, Proposal):
            proposed = Proposal()
            proposed.CopyFrom(given)
            proposed.id = given.id or uuid7()
            proposed.state.CopyFrom(values.draft(given.state))
            return proposed
        run, state = given
        return self._proposal(run, values.draft(state))
