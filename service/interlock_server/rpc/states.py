"""States, proposals and decisions: protobuf <-> domain."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from google.protobuf.message import Message
from interlock.v1 import state_pb2 as pb
from interlock.v1.error_pb2 import ItemError

from interlock_server.core.errors import CallError, InvalidArgumentError
from interlock_server.core.json_schemas import MAX_SCHEMA_BYTES
from interlock_server.core.transitions import Answer, Proposal
from interlock_server.rpc import fields
from interlock_server.rpc.limits import MAX_BATCH_ITEMS, MAX_KEY_BYTES, MAX_TEXT_BYTES
from interlock_server.rules.frame import Verdict
from interlock_server.rules.states import (
    DEFAULT_NAMES,
    NO_DETAILS,
    ResultReference,
    State,
    StateDetails,
    StateDraft,
    StateType,
)
from interlock_server.storage.records import Transition

MAX_STATE_NAME_BYTES = 200

STATE_TYPES: dict[int, StateType] = {
    pb.StateType.Value(f"STATE_TYPE_{type_}"): type_ for type_ in StateType
}
TYPE_NUMBERS: dict[StateType, Any] = {type_: n for n, type_ in STATE_TYPES.items()}
_VERDICT_NUMBERS = {verdict: pb.Verdict.Value(f"VERDICT_{verdict}") for verdict in Verdict}


def digest(request: Message) -> bytes:
    """Tell a request's content from another's, the id included."""
    return blake2b(request.SerializeToString(deterministic=True), digest_size=16).digest()


def state_type(field: str, number: int) -> StateType:
    """Read a state type."""
    if (type_ := STATE_TYPES.get(number)) is None:
        raise InvalidArgumentError(
            field,
            "A state type is required." if number == 0 else f"There is no state type {number}.",
        )
    return type_


def state_types(field: str, numbers: Iterable[int]) -> tuple[StateType, ...]:
    """Read the state types of a filter."""
    return tuple([state_type(f"{field}[{i}]", number) for i, number in enumerate(numbers)])


def draft(field: str, message: pb.StateDraft) -> StateDraft:
    """Read a state that is proposed."""
    type_ = state_type(f"{field}.type", message.type)
    given = message.name
    return StateDraft(
        type_,
        fields.text(f"{field}.name", given, MAX_STATE_NAME_BYTES)
        if given
        else DEFAULT_NAMES[type_],
        fields.text(f"{field}.message", message.message, MAX_TEXT_BYTES),
        _details(f"{field}.details", message.details)
        if message.HasField("details")
        else NO_DETAILS,
        _result(f"{field}.result", message.result) if message.HasField("result") else None,
    )


def first_draft(message: pb.StateDraft | None) -> StateDraft:
    """Read the state that a run is made with; None: PENDING."""
    if message is None:
        return StateDraft(StateType.PENDING, DEFAULT_NAMES[StateType.PENDING])
    return draft("state", message)


def _details(field: str, message: pb.StateDetails) -> StateDetails:
    keyset = message.run_input_keyset_json
    return StateDetails(
        scheduled_time=fields.timestamp_or_none(field, message, "scheduled_time"),
        cache_key=fields.text(f"{field}.cache_key", message.cache_key, MAX_KEY_BYTES) or None,
        cache_expiration=fields.timestamp_or_none(field, message, "cache_expiration"),
        refresh_cache=message.refresh_cache,
        pause_timeout=fields.timestamp_or_none(field, message, "pause_timeout"),
        pause_reschedule=message.pause_reschedule,
        pause_key=fields.text(f"{field}.pause_key", message.pause_key) or None,
        run_input_keyset=fields.json_text(f"{field}.run_input_keyset_json", keyset, "") or None,
        retriable=message.retriable if message.HasField("retriable") else None,
        child_flow_run_id=fields.id_or_none(
            f"{field}.child_flow_run_id", message.child_flow_run_id
        ),
        trace_parent=fields.text(f"{field}.trace_parent", message.trace_parent) or None,
        input_schema=input_schema(f"{field}.input_schema_json", message.input_schema_json),
    )


def input_schema(field: str, text: str) -> str | None:
    """Read the schema that a pause names, if it does. Whether it is one is not looked at here."""
    return fields.json_text(field, text, "", MAX_SCHEMA_BYTES) or None


def _result(field: str, message: pb.ResultReference) -> ResultReference:
    return ResultReference(
        fields.name(f"{field}.storage_key", message.storage_key, MAX_KEY_BYTES),
        fields.id_or_none(f"{field}.storage_block_id", message.storage_block_id),
        fields.json_text(f"{field}.metadata_json", message.metadata_json, "") or None,
    )


def proposal(field: str, message: pb.Proposal) -> Proposal:
    """Read a proposal."""
    if not message.HasField("state"):
        raise InvalidArgumentError(f"{field}.state", "A state is required.")
    return Proposal(
        fields.id_or_new(f"{field}.id", message.id),
        fields.id_(f"{field}.run_id", message.run_id),
        draft(f"{field}.state", message.state),
        digest(message),
        message.force,
        fields.text(f"{field}.proposed_by", message.proposed_by),
        fields.number(f"{field}.expected_version", message.expected_version, 2**63 - 1),
    )


def proposals(messages: Iterable[pb.Proposal]) -> list[Proposal]:
    """Read the proposals of a batch."""
    items = list(messages)
    check_batch("proposals", len(items))
    return [proposal(f"proposals[{i}]", message) for i, message in enumerate(items)]


def check_batch(field: str, count: int) -> None:
    """Check how many items a batch has."""
    if not 1 <= count <= MAX_BATCH_ITEMS:
        raise InvalidArgumentError(
            field, f"{count:,} items are given; 1 to {MAX_BATCH_ITEMS:,} are taken."
        )


# --- the other way --------------------------------------------------------------------------------


def to_state(state: State) -> pb.State:
    """Make protobuf's form of a state."""
    message = pb.State()
    _fill_state(message, state)
    return message


def _fill_state(message: pb.State, state: State) -> None:
    # In place: a message that is handed to another one's constructor is copied.
    message.id = state.id
    message.type = TYPE_NUMBERS[state.type]
    message.name = state.name
    message.message = state.message
    fields.fill_timestamp(message.timestamp, state.timestamp)
    if state.details is not NO_DETAILS:
        message.details.CopyFrom(_to_details(state.details))
    if (result := state.result) is not None:
        message.result.storage_key = result.storage_key
        message.result.storage_block_id = result.storage_block_id or ""
        message.result.metadata_json = result.metadata or ""


def to_state_type(type_: StateType) -> Any:
    """Answer protobuf's number of a state type."""
    return TYPE_NUMBERS[type_]


def to_state_or_none(state: State | None) -> pb.State | None:
    """Make protobuf's form of a state that may be missing."""
    return None if state is None else to_state(state)


def _to_details(details: StateDetails) -> pb.StateDetails:
    return pb.StateDetails(
        scheduled_time=fields.to_timestamp_or_none(details.scheduled_time),
        cache_key=details.cache_key or "",
        cache_expiration=fields.to_timestamp_or_none(details.cache_expiration),
        refresh_cache=details.refresh_cache,
        pause_timeout=fields.to_timestamp_or_none(details.pause_timeout),
        pause_reschedule=details.pause_reschedule,
        pause_key=details.pause_key or "",
        run_input_keyset_json=details.run_input_keyset or "",
        retriable=details.retriable,
        child_flow_run_id=details.child_flow_run_id or "",
        trace_parent=details.trace_parent or "",
        input_schema_json=details.input_schema or "",
    )


def to_decision(answer: Answer) -> pb.Decision:
    """Make protobuf's form of the answer to a proposal."""
    message = pb.Decision()
    _fill_decision(message, answer)
    return message


def _fill_decision(message: pb.Decision, answer: Answer) -> None:
    message.proposal_id = answer.proposal_id
    message.verdict = _VERDICT_NUMBERS[answer.verdict]
    message.run_count = answer.run_count
    message.version = answer.version
    if answer.state is not None:
        _fill_state(message.state, answer.state)
    if answer.rule:
        message.rule = answer.rule
        message.reason = answer.reason
        message.explanation = answer.explanation
    if answer.retry_after:
        message.retry_after.CopyFrom(fields.to_duration(answer.retry_after))


def to_outcomes(outcomes: Iterable[Answer | CallError]) -> list[pb.ProposalOutcome]:
    """Make protobuf's form of what became of a batch's proposals."""
    messages: list[pb.ProposalOutcome] = []
    for place, outcome in enumerate(outcomes):
        message = pb.ProposalOutcome()
        if isinstance(outcome, CallError):
            message.error.CopyFrom(to_item_error(f"proposals[{place}]", outcome))
        else:
            _fill_decision(message.decision, outcome)
        messages.append(message)
    return messages


def to_item_error(item: str, error: CallError) -> ItemError:
    """Make protobuf's form of why one item of a batch failed."""
    return ItemError(
        code=error.code.value,
        reason=error.reason,
        message=error.message,
        field=f"{item}.{error.field}" if error.field else item,
    )


def to_transition(transition: Transition) -> pb.Transition:
    """Make protobuf's form of a line of a run's history."""
    return pb.Transition(
        id=transition.id,
        decide_time=fields.to_timestamp(transition.decided),
        proposed_type=TYPE_NUMBERS[transition.proposed_type],
        proposed_name=transition.proposed_name,
        verdict=_VERDICT_NUMBERS[transition.verdict],
        rule=transition.rule,
        reason=transition.reason,
        explanation=transition.explanation,
        state=to_state_or_none(transition.state),
        proposed_by=transition.proposed_by,
        force=transition.force,
    )
