"""Proposes the states of task runs, those that come together in one batch."""

import asyncio
from collections.abc import Sequence

from interlock import AsyncClient, values
from interlock.v1.state_pb2 import (
    VERDICT_WAIT,
    Decision,
    Proposal,
    State,
    StateDetails,
    StateDraft,
    StateType,
)

from interlock_server.replay.script import Move, StateName


class UnexpectedDecisionError(Exception):
    """The server decided otherwise than its rules say. Its text is for people."""


class Proposer:
    """Sends the proposals of many coroutines through one client.

    While a batch is under way, what is proposed meanwhile becomes the next one: one by one where
    little happens, hundreds at once in a burst, and never later than the line is free.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._waiting: list[tuple[Proposal, asyncio.Future[Decision]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def make(self, move: Move, run_id: str, proposal_id: str, proposed_by: str) -> None:
        """Propose a task run's move, for as long as the server says to wait.

        Raises:
            UnexpectedDecisionError: another state was written than the one the move tells, or none.
            InterlockError: the server could not be asked.
        """
        proposal = values.proposal(
            run_id, _draft(move), proposal_id=proposal_id, proposed_by=proposed_by
        )
        decision = await self._propose(proposal)
        while decision.verdict == VERDICT_WAIT:
            await asyncio.sleep(values.seconds(decision.retry_after))
            decision = await self._propose(proposal)
        if decision.state.id != proposal_id or state_name(decision.state) != move.written:
            raise UnexpectedDecisionError(
                f"proposed {move.type}, expected {'/'.join(move.written)}, and is now "
                f"{'/'.join(state_name(decision.state))} {decision.reason} {decision.explanation}"
            )

    async def _propose(self, proposal: Proposal) -> Decision:
        answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._waiting.append((proposal, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return await answer

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._send_batch(batch)
        finally:
            self._sending = None

    async def _send_batch(self, batch: list[tuple[Proposal, asyncio.Future[Decision]]]) -> None:
        answers: Sequence[Decision | Exception]
        try:
            answers = await self._client.set_task_run_states([proposal for proposal, _ in batch])
        except Exception as error:
            # Whatever it is, it belongs to those who wait.
            answers = [error] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)


def state_name(state: State) -> StateName:
    """Answer the type's word and the name of a state that the server told."""
    return (StateType.Name(state.type).removeprefix("STATE_TYPE_"), state.name)


def _draft(move: Move) -> StateDraft:
    details = None if move.retriable else StateDetails(retriable=False)
    return values.draft(move.type, name=move.name, message=move.message, details=details)
