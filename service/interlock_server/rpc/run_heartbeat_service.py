"""RunHeartbeatService."""

from __future__ import annotations

from collections.abc import Iterable

from interlock.v1 import run_heartbeat_pb2 as pb

from interlock_server.core.engine import Engine
from interlock_server.core.errors import CallError, InvalidArgumentError
from interlock_server.core.heartbeats import Beat, BeatAnswer, SendHeartbeats
from interlock_server.rpc import fields, states
from interlock_server.rpc.calls import Context, remaining
from interlock_server.rules.heartbeats import Advice
from interlock_server.rules.states import Micros
from interlock_server.storage.records import RunKind

MIN_TIMEOUT: Micros = 100_000
MAX_TIMEOUT: Micros = 86_400 * 1_000_000

_MAX_ATTEMPT = 2**31 - 1
_ADVICE_NUMBERS = {
    advice: pb.HeartbeatAdvice.Value(f"HEARTBEAT_ADVICE_{advice}") for advice in Advice
}


class RunHeartbeatService:
    """Watches runs by heartbeats; see `protos/interlock/v1/run_heartbeat.proto`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def SendHeartbeats(  # noqa: N802
        self, request: pb.SendHeartbeatsRequest, context: Context
    ) -> pb.SendHeartbeatsResponse:
        """Note that runs live, and say what they are to do."""
        command = SendHeartbeats(_beats(request.heartbeats))
        outcomes = await self._engine.pipeline.submit(command, remaining(context))
        return pb.SendHeartbeatsResponse(
            outcomes=[_to_outcome(i, outcome) for i, outcome in enumerate(outcomes)]
        )


def _beats(messages: Iterable[pb.Heartbeat]) -> list[Beat]:
    items = list(messages)
    states.check_batch("heartbeats", len(items))
    return [_beat(f"heartbeats[{i}]", message) for i, message in enumerate(items)]


def _beat(field: str, message: pb.Heartbeat) -> Beat:
    match message.WhichOneof("run"):
        case "flow_run_id":
            kind = RunKind.FLOW_RUN
            run_id = fields.id_(f"{field}.flow_run_id", message.flow_run_id)
        case "task_run_id":
            kind = RunKind.TASK_RUN
            run_id = fields.id_(f"{field}.task_run_id", message.task_run_id)
        case _:
            raise InvalidArgumentError(field, "Set `flow_run_id` or `task_run_id`.")
    timeout = fields.duration(f"{field}.timeout", message.timeout)
    if not MIN_TIMEOUT <= timeout <= MAX_TIMEOUT:
        raise InvalidArgumentError(
            f"{field}.timeout", "The timeout is out of range: 100 milliseconds to a day."
        )
    attempt = fields.number(f"{field}.attempt", message.attempt, _MAX_ATTEMPT, smallest=1)
    return Beat(kind, run_id, attempt, timeout)


def _to_outcome(place: int, outcome: BeatAnswer | CallError) -> pb.HeartbeatOutcome:
    if isinstance(outcome, CallError):
        return pb.HeartbeatOutcome(error=states.to_item_error(f"heartbeats[{place}]", outcome))
    answer = pb.HeartbeatAnswer(
        advice=_ADVICE_NUMBERS[outcome.advice],
        run_count=outcome.run_count,
        deadline_time=fields.to_timestamp_or_none(outcome.deadline),
    )
    if (state := outcome.state) is not None:
        answer.state_type, answer.state_name = states.to_state_type(state.type), state.name
    return pb.HeartbeatOutcome(answer=answer)
