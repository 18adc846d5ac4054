"""What a run waits for, or why it ended as it did: from its circumstances to words and codes.

Nothing here decides anything. Each cause says first what is, then what would change it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from interlock_server.rules.circumstances import Circumstances, Refused, Written
from interlock_server.rules.frame import Verdict
from interlock_server.rules.overdue import overdue_since
from interlock_server.rules.runs import RetryType
from interlock_server.rules.states import (
    AWAITING_RETRY,
    CACHED,
    RESUMING,
    TERMINAL,
    Id,
    Micros,
    State,
    StateType,
)

_SECOND = 1_000_000
_SPANS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
_QUOTED_CHARACTERS, _SCHEMA_CHARACTERS = 300, 4_000


# --- what is said ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason why a run is where it is; see `Cause` in `protos/interlock/v1/explanation.proto`.

    `words` say what is, `outlook` what would change it.
    """

    reason: str
    words: str
    outlook: str = ""
    until: Micros | None = None
    resource_type: str = ""
    resource_id: Id = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The causes, the most important first; the summary is what the first one says."""

    summary: str
    causes: tuple[Cause, ...]


def explain(run: Circumstances) -> Explanation:
    """Say what a run waits for, or why it ended as it did."""
    causes = (*_causes(run), *(_refusal(refused, run.now) for refused in run.refused))
    return Explanation(causes[0].words, causes)


def _causes(run: Circumstances) -> Iterator[Cause]:
    state = run.state
    if state is None:
        yield Cause("NO_STATE", "The run has no state yet.", "It waits for a first proposal.")
        return
    if state.type not in TERMINAL:
        yield from _held_by_the_flow_run(run)
    match state.type:
        case StateType.SCHEDULED:
            yield from _scheduled(run, state)
        case StateType.PENDING:
            yield from _pending(run, state)
        case StateType.RUNNING:
            yield from _running(run, state)
        case StateType.PAUSED:
            yield from _paused(run, state)
        case StateType.CANCELLING:
            yield from _cancelling(run, state)
        case _:
            yield from _ended(run, state)


# --- what a run waits for -------------------------------------------------------------------------


def _held_by_the_flow_run(run: Circumstances) -> Iterator[Cause]:
    """A task run can not run while its flow run does not."""
    parent = run.flow_run
    if parent is None:
        return
    state = parent.state
    if state is not None and state.type is StateType.RUNNING:
        return
    if state is not None and state.type is StateType.PAUSED:
        yield Cause(
            "FLOW_PAUSED",
            f"Its flow run {parent.name} is {state.name}.",
            "It can run once the flow run was resumed.",
            state.details.pause_timeout,
            "flow_run",
            parent.id,
        )
        return
    found = "has no state yet" if state is None else f"is {state.name}"
    yield Cause(
        "FLOW_NOT_RUNNING",
        f"Its flow run {parent.name} {found}.",
        "A task run runs only while its flow run does.",
        resource_type="flow_run",
        resource_id=parent.id,
    )


def _scheduled(run: Circumstances, state: State) -> Iterator[Cause]:
    due = state.details.scheduled_time
    due = state.timestamp if due is None else due
    if due > run.now:
        ahead = f"in {_span(due - run.now)}"
        if state.name == AWAITING_RETRY:
            yield Cause("RETRYING", f"{_retry(run)} begins {ahead}{_because(state)}", until=due)
        else:
            yield Cause("NOT_DUE", f"It is due {ahead}.", until=due)
        return
    since = f"It has been due for {_span(run.now - due)}"
    if state.name == RESUMING:
        yield Cause(
            "DUE_NOT_TAKEN",
            f"{since}, since it was resumed, and nobody has taken it.",
            "It waits for someone to run it.",
        )
    elif state.name == AWAITING_RETRY:
        in_process = run.is_task_run or run.progress.retry_type is not RetryType.RESCHEDULE
        yield Cause(
            "DUE_NOT_TAKEN",
            f"{since}: {_lower(_retry(run))} has not begun{_because(state)}",
            "The process that ran it before is to run it again."
            if in_process
            else "It waits for someone to run it.",
        )
    else:
        yield Cause(
            "DUE_NOT_TAKEN",
            f"{since} and nobody has taken it.",
            "It waits for someone to run it: see that a worker is there.",
        )


def _pending(run: Circumstances, state: State) -> Iterator[Cause]:
    due = state.details.scheduled_time
    if due is not None and due > run.now:
        yield Cause("NOT_DUE", f"It is due in {_span(due - run.now)}.", until=due)
    since = _span(run.now - state.timestamp)
    if state.timestamp == run.created:
        yield Cause(
            "NOT_STARTED",
            f"It was made {since} ago{_by(run)} and has not been started.",
            "It waits for whoever made it to run it.",
        )
    else:
        yield Cause(
            "TAKEN",
            f"It was taken {since} ago{_by(run)} and is being prepared: {state.name}.",
            "It goes on when its code begins to run.",
        )


def _running(run: Circumstances, state: State) -> Iterator[Cause]:
    count = run.progress.run_count
    yield Cause(
        "RUNNING",
        f"It has been running for {_span(run.now - state.timestamp)}.",
        f"This is run number {count}." if count > 1 else "",
    )
    if run.heartbeat is None:
        yield Cause(
            "NO_HEARTBEATS",
            "It sends no heartbeats.",
            "If its process dies, nobody will notice by themselves.",
        )
    yield from _heartbeats(run)


def _heartbeats(run: Circumstances) -> Iterator[Cause]:
    beat = run.heartbeat
    if beat is None:
        return
    if beat.deadline > run.now:
        yield Cause(
            "HEARTBEATS",
            f"Its last heartbeat came {_span(run.now - beat.last)} ago.",
            f"Without another one it counts as dead in {_span(beat.deadline - run.now)}.",
            beat.deadline,
        )
    else:
        yield Cause(
            "HEARTBEATS_CEASED",
            f"Its last heartbeat came {_span(run.now - beat.last)} ago: it counts as dead.",
            "The service is about to end it.",
        )


def _paused(run: Circumstances, state: State) -> Iterator[Cause]:
    details = state.details
    if run.is_task_run:
        if run.flow_run is None or run.flow_run.state is None:
            yield Cause("PAUSED", "It is paused.", "It waits for a proposal to run.")
        elif run.flow_run.state.type is StateType.RUNNING:
            yield Cause(
                "FLOW_RESUMED",
                "It is paused, while its flow run runs again.",
                "It goes on when its process proposes to run it.",
            )
        return
    over = details.pause_timeout
    suspended = details.pause_reschedule
    word = "suspended" if suspended else "paused"
    ago = f"{_span(run.now - state.timestamp)} ago"
    words = f"It was {word} {ago}{_by(run)}{_because(state)}"
    if over is not None and over <= run.now:
        yield Cause(
            "PAUSE_OVER",
            f"{words} The time of its pause was over {_span(run.now - over)} ago.",
            "It fails as soon as the service or someone who resumes it finds that.",
        )
        return
    left = f" It fails in {_span(over - run.now)} unless that is done." if over is not None else ""
    reason = "SUSPENDED" if suspended else "PAUSED"
    how = "with the input that it asks for" if details.input_schema is not None else "to go on"
    yield Cause(
        reason, words, f"Resume it {how}: `interlock flow-run resume {run.id}`.{left}", over
    )
    if details.input_schema is not None:
        key = f" under the key {details.pause_key}" if details.pause_key else ""
        schema = _cut(details.input_schema, _SCHEMA_CHARACTERS)
        yield Cause(
            "INPUT_AWAITED",
            f"It waits for input{key}.",
            f"The input is JSON that meets this schema: {schema}",
            over,
        )


def _cancelling(run: Circumstances, state: State) -> Iterator[Cause]:
    outlook = "It ends when what carries it says that it has stopped"
    until = None if run.is_task_run else overdue_since(state, run.patience)
    if until is not None:
        left = until - run.now
        outlook += f", in {_span(left)} at the latest" if left > 0 else ", or at any moment now"
    yield Cause(
        "CANCELLING",
        f"It was told to stop {_span(run.now - state.timestamp)} ago{_by(run)}{_because(state)}",
        f"{outlook}.",
        until,
    )
    yield from _heartbeats(run)


# --- why it ended ---------------------------------------------------------------------------------

_ENDS = {
    StateType.COMPLETED: "completed",
    StateType.CANCELLED: "was cancelled",
    StateType.FAILED: "failed",
    StateType.CRASHED: "crashed",
}


def _ended(run: Circumstances, state: State) -> Iterator[Cause]:
    ago = f"{_span(run.now - state.timestamp)} ago"
    written = run.written or Written(Verdict.ACCEPT)
    if state.name == CACHED:
        yield Cause(
            "CACHED",
            f"It did not run: {ago} its result was found in the cache.",
            f"It stands under the key {_cut(state.details.cache_key or '')}.",
            resource_type="task_run" if run.cached_from else "",
            resource_id=run.cached_from or "",
        )
        return
    by = _by(run) if state.type is StateType.CANCELLED else ""
    words = f"It {_ENDS[state.type]} {ago}{by}{_because(state)}"
    outlook = ""
    if written.rule:
        outlook = f"The rule {written.rule} decided so: {written.explanation}"
    elif written.proposed_by and not by:
        outlook = f"{written.proposed_by} said so{' with force' if written.force else ''}."
    elif written.force:
        outlook = "It was proposed with force."
    yield Cause(written.reason or state.type.value, words, outlook)
    if state.type in (StateType.FAILED, StateType.CRASHED):
        yield from _no_retry(run, state, written)
        yield from _failed_task_runs(run)


def _no_retry(run: Circumstances, state: State, written: Written) -> Iterator[Cause]:
    """Say why a run that failed is not tried again, where it might have been."""
    most, count = run.retry.max_retries, run.progress.run_count
    if most == 0:
        return
    if state.type is StateType.FAILED and state.details.retriable is False:
        yield Cause("NOT_RETRIABLE", "Whoever ran it said that this failure is not to be retried.")
    elif count > most:
        tries = "once" if most == 1 else f"{most} times"
        yield Cause("RETRIES_EXHAUSTED", f"It was tried again {tries}, as often as it may be.")
    elif state.type is StateType.CRASHED and not run.retry.retry_crashes:
        yield Cause(
            "CRASHES_NOT_RETRIED",
            "Its retries are for failures; it is not tried again after it crashed.",
        )
    elif written.force:
        yield Cause("FORCED", "It was ended by force, without a look at its retries.")


def _failed_task_runs(run: Circumstances) -> Iterator[Cause]:
    for task_run in run.failed_task_runs:
        assert task_run.state is not None, "it was found by its state"
        yield Cause(
            "TASK_RUN_FAILED",
            f"Its task run {task_run.name} is {task_run.state.name}{_because(task_run.state)}",
            resource_type="task_run",
            resource_id=task_run.id,
        )
    if run.more_failed:
        yield Cause("TASK_RUN_FAILED", "More of its task runs failed or crashed.")


def _refusal(refused: Refused, now: Micros) -> Cause:
    who = refused.proposed_by or "someone"
    return Cause(
        refused.reason,
        f"{_span(now - refused.decided)} ago {who} proposed {refused.proposed_name} in vain "
        f"({refused.verdict.value}): {_cut(refused.explanation)}",
    )


# --- words ----------------------------------------------------------------------------------------


def _span(micros: Micros) -> str:
    """Say a length of time as precisely as it matters, such as `3 hours` or `1 hour 59 minutes`."""
    left = max(0, round(micros / _SECOND))
    words: list[str] = []
    for word, size in _SPANS:
        count, left = divmod(left, size)
        if count:
            words.append(f"{count} {word}{'' if count == 1 else 's'}")
        if words and (count == 0 or count >= 3 or len(words) == 2):
            break
    return " ".join(words) or "less than a second"


def _retry(run: Circumstances) -> str:
    return f"Retry {run.progress.run_count} of {run.retry.max_retries}"


def _by(run: Circumstances) -> str:
    by = run.written.proposed_by if run.written is not None else ""
    return f" by {by}" if by else ""


def _because(state: State) -> str:
    """End a sentence with the state's message, if it has one."""
    message = _cut(state.message.strip())
    if not message:
        return "."
    return f": {message}" if message.endswith((".", "!", "?")) else f": {message}."


def _cut(text: str, most: int = _QUOTED_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
