"""What a fleet does with each task of a trace: the states to propose, the waits, the log lines.

Pure: a trace task goes in, its script comes out. The script also says which state the server is to
write for each proposal, as its rules decide (`rules/task_runs.py`), so that what was played can be
checked against what the server tells afterwards.

How an attempt becomes states:

    executed, COMPLETED      RUNNING, COMPLETED
    executed, FAILED         RUNNING, FAILED; AwaitingRetry if the trace has another attempt
    CRASHED, CANCELLED       RUNNING, CRASHED / CANCELLED; another attempt begins with PENDING
    never executed           the outcome alone
    CACHED                   COMPLETED named Cached
    UNFINISHED               RUNNING and no more

A task run is SCHEDULED as it is created, while its parents run, and PENDING once it is submitted.
"""

import logging
from dataclasses import dataclass, field
from itertools import pairwise

from interlock_server.replay.trace import Attempt, Outcome, TraceTask
from interlock_server.rules.states import (
    AWAITING_RETRY,
    DEFAULT_NAMES,
    RERUNNING,
    RETRYING,
    StateType,
)

StateName = tuple[str, str]
"""A state's type and its name."""

_MOST_DELAYS = 50
"""A retry policy has no room for more; its last one repeats."""


@dataclass(frozen=True, slots=True)
class Line:
    """A log line, with its level in the numbers of `logging`."""

    level: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A state to propose, and the one that the server is to write for it."""

    type: StateType
    name: str = ""
    """Empty: the type's own word."""
    message: str = ""
    retriable: bool = True
    """False: the trace did not try this failure again, though the policy would let it."""
    written: StateName
    says: Line | None = None
    """What the task writes to its log once the state is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Wait, write log lines meanwhile, then make a move."""

    wait: float = 0.0
    """Seconds of the trace."""
    lines: tuple[Line, ...] = ()
    move: Move | None = None
    """None: the trace ends here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What is done with one task run. One that was never submitted has no steps."""

    retries: int = 0
    """How often the server is to let it be tried again."""
    retry_delays: tuple[float, ...] = ()
    """Seconds of the trace before each retry, the first one first, as the server counts them."""
    submission: Move | None = None
    """The workflow system submits the task; what follows is a worker's part."""
    steps: tuple[Step, ...] = ()
    run_count: int = 0
    """What the server is to count in the end."""

    @property
    def states(self) -> tuple[StateName, ...]:
        """The exact sequence of states that the server is to have written."""
        moves = [self.submission, *(step.move for step in self.steps)]
        return (CREATED, *(move.written for move in moves if move is not None))

    @property
    def lines(self) -> tuple[Line, ...]:
        """The log lines, in order."""
        found: list[Line] = []
        for step in self.steps:
            found += step.lines
            if step.move is not None and step.move.says is not None:
                found.append(step.move.says)
        return tuple(found)


CREATED: StateName = (StateType.SCHEDULED, DEFAULT_NAMES[StateType.SCHEDULED])
"""The state that task runs are created with: they wait for their parents."""


def write_script(task: TraceTask) -> Script:
    """Answer what is done with a task."""
    if not task.attempts:
        return Script()
    followed = list(pairwise(task.attempts))
    retried = [number for number, (this, _) in enumerate(followed, 1) if _fails_while_running(this)]
    retries = max(retried, default=0)
    writer = _Writer(retries)
    for this, following in zip(task.attempts, [*task.attempts[1:], None], strict=True):
        writer.attempt(this, following)
    return Script(
        retries=retries,
        retry_delays=writer.retry_delays,
        submission=_PENDING,
        steps=tuple(writer.steps),
        run_count=writer.run_count,
    )


_PENDING = Move(
    type=StateType.PENDING, written=(StateType.PENDING, DEFAULT_NAMES[StateType.PENDING])
)


@dataclass(slots=True)
class _Writer:
    """Writes the steps of one attempt after the other, and keeps count as the server does."""

    retries: int
    steps: list[Step] = field(default_factory=list)
    run_count: int = 0
    _state: StateName = _PENDING.written
    _number: int = 0
    _gap: float = 0.0
    """Seconds from the end of the attempt before."""
    _delays: dict[int, float] = field(default_factory=dict)
    """Seconds before each retry. Where the count begins anew one number stands for two of them:
    the shorter counts, since a worker waits out the rest by itself."""

    @property
    def retry_delays(self) -> tuple[float, ...]:
        last = min(max(self._delays, default=0), _MOST_DELAYS)
        return tuple(self._delays.get(number, 0.0) for number in range(1, last + 1))

    def attempt(self, attempt: Attempt, following: Attempt | None) -> None:
        self._number += 1
        if self._state[1] != AWAITING_RETRY and self._state != _PENDING.written:
            self._take_again()
        if is_executed(attempt):
            self._start(attempt)
        own = tuple(Line(logging.INFO, text) for text in attempt.logs)
        if attempt.outcome.state is None:
            self.steps.append(Step(wait=attempt.duration, lines=own))
        else:
            self._end(attempt, own, following)
        self._gap = _gap(attempt, following) if following is not None else 0.0

    def _take_again(self) -> None:
        """Begin anew after an end that the server does not retry by itself."""
        if self._state[0] != StateType.RUNNING:
            self.run_count = 0
        self._move(_PENDING)

    def _start(self, attempt: Attempt) -> None:
        name = DEFAULT_NAMES[StateType.RUNNING]
        if self.run_count > 0:
            name = RETRYING if self._state[1] == AWAITING_RETRY else RERUNNING
        where = f" on {attempt.host}" if attempt.host else ""
        says = Line(logging.INFO, f"attempt {self._number} starts{where}")
        self.run_count += 1
        self._move(
            Move(
                type=StateType.RUNNING,
                written=(StateType.RUNNING, name),
                says=None if attempt.logs else says,
            )
        )

    def _end(self, attempt: Attempt, own: tuple[Line, ...], following: Attempt | None) -> None:
        assert attempt.outcome.state is not None
        kind, name = attempt.outcome.state
        message = attempt.message
        written: StateName = (kind, name)
        retriable = True
        retries_left = 0 < self.run_count <= self.retries
        if _fails_while_running(attempt) and retries_left:
            retriable = following is not None
            if following is not None:
                written = (StateType.SCHEDULED, AWAITING_RETRY)
                gap = _gap(attempt, following)
                self._delays[self.run_count] = min(gap, self._delays.get(self.run_count, gap))
        said = f"attempt {self._number} ends: {name}"
        level = logging.INFO if kind == StateType.COMPLETED else logging.ERROR
        says = Line(level, f"{said} ({message})" if message else said)
        move = Move(
            type=StateType(kind),
            name=name,
            message=message,
            retriable=retriable,
            written=written,
        )
        lines = own if attempt.logs else (*own, says)
        self._move(move, wait=attempt.duration, lines=lines)

    def _move(self, move: Move, *, wait: float = 0.0, lines: tuple[Line, ...] = ()) -> None:
        wait, self._gap = wait + self._gap, 0.0
        self.steps.append(Step(wait=wait, lines=lines, move=move))
        self._state = move.written


def is_executed(attempt: Attempt) -> bool:
    """Tell whether anything ran: sources without any times do not say that it did not."""
    if attempt.outcome is Outcome.CACHED:
        return False
    if attempt.outcome is Outcome.UNFINISHED or attempt.has_times:
        return attempt.started is not None
    return True


def _fails_while_running(attempt: Attempt) -> bool:
    return attempt.outcome is Outcome.FAILED and is_executed(attempt)


def _gap(this: Attempt, following: Attempt) -> float:
    """Answer how many seconds pass between two attempts, as far as the source says."""
    begin = following.started if following.started is not None else following.submitted
    if this.ended is None or begin is None:
        return 0.0
    return max(0.0, begin - this.ended)
