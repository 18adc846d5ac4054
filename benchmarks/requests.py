"""What the benchmarks send: messages as a worker would fill them."""

from __future__ import annotations

from interlock.ids import uuid7
from interlock.v1 import flow_run_pb2 as pb
from interlock.v1 import state_pb2

SET_STATE = "/interlock.v1.FlowRunService/SetState"
BATCH_SET_STATES = "/interlock.v1.FlowRunService/BatchSetStates"
APPEND_LOGS = "/interlock.v1.LogService/AppendLogs"

_MESSAGE = "Attempt on host worker-17: 3 of 8 parts are done."
_PROPOSED_BY = "worker-17.cluster.example"


def proposal(run_id: str, id_: str = "") -> state_pb2.Proposal:
    """Propose RUNNING: from RUNNING all rules let it pass, and each time counts as an attempt."""
    return state_pb2.Proposal(
        id=id_,
        run_id=run_id,
        state=state_pb2.StateDraft(type=state_pb2.STATE_TYPE_RUNNING, message=_MESSAGE),
        proposed_by=_PROPOSED_BY,
    )


def set_state(run_id: str) -> bytes:
    """Make a request that can be sent any number of times: the server makes each proposal's id."""
    return pb.FlowRunServiceSetStateRequest(proposal=proposal(run_id)).SerializeToString()


def batch_set_states(run_ids: list[str]) -> bytes:
    """Make a request with fresh proposals, one for each run."""
    return pb.FlowRunServiceBatchSetStatesRequest(
        proposals=[proposal(run_id, uuid7()) for run_id in run_ids]
    ).SerializeToString()


def example_response() -> pb.FlowRunServiceSetStateResponse:
    """Make a response as large as SetState's."""
    state = state_pb2.State(
        id=uuid7(),
        type=state_pb2.STATE_TYPE_RUNNING,
        name="Running",
        message=_MESSAGE,
    )
    state.timestamp.GetCurrentTime()
    return pb.FlowRunServiceSetStateResponse(
        decision=state_pb2.Decision(
            proposal_id=state.id, verdict=state_pb2.VERDICT_ACCEPT, state=state, run_count=1000
        )
    )
