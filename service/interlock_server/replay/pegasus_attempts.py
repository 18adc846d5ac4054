"""From the life of a Pegasus job to attempts.

jobstate.log and the monitord events tell the same story in the same steps, since monitord writes
both. This is the one place that knows what the steps mean.

One submission is normally one attempt. It is more when HTCondor itself had to execute the job
again (after an eviction, say): each execution that was lost is an attempt of its own, which
crashed. The word of the POST script, where there is one, is final: it may fail a job that returned
0, and accept one that did not.
"""

from dataclasses import dataclass, field

from interlock_server.replay.trace import Attempt, Invocation, Outcome

_NAMES_SHOWN = 10
"""A note is for people, who do not read a thousand names."""


@dataclass(slots=True)
class Submission:
    """What was heard of one submission of a job. Times are in seconds on any one clock."""

    submitted: float | None = None
    started: float | None = None
    terminated: float | None = None
    interrupted: tuple[float, str] | None = None
    """When and why the current execution was broken off; unless it starts again, still open."""
    job_exit: tuple[float, int] | None = None
    job_failed: bool = False
    """What monitord made of the job's exit code."""
    pre_exit: tuple[float, int] | None = None
    post_started: bool = False
    post_exit: tuple[float, int] | None = None
    ended_early: tuple[float, Outcome, str] | None = None
    """Removed, or never accepted by the scheduler."""
    host: str | None = None
    logs: list[str] = field(default_factory=list)
    invocations: list[Invocation] = field(default_factory=list)
    mended: int = 0
    """How many ends lay before their starts."""
    _lost: list[tuple[float | None, float, float, str]] = field(default_factory=list)

    def execute(self, time: float) -> None:
        """The job begins to execute; again, if it did before."""
        if self.started is not None:
            ended, reason = self.interrupted or (time, "executed again")
            self._lost.append((self.submitted, self.started, ended, f"lost: {reason}"))
            self.submitted = ended
        self.started = time
        self.interrupted = None

    def attempts(self, origin: float, trace_end: float) -> list[Attempt]:
        """The attempts, oldest first, with times relative to the origin.

        What has not ended gets the time until the trace's end as its duration.
        """
        found = [
            self._attempt(Outcome.CRASHED, submitted, started, ended, origin, message=message)
            for submitted, started, ended, message in self._lost
        ]
        outcome, ended, message = self._verdict()
        last = self._attempt(
            outcome, self.submitted, self.started, ended, origin, message, trace_end
        )
        return [*found, last]

    def _verdict(self) -> tuple[Outcome, float | None, str]:
        """The last attempt's outcome, the end of its execution, and why."""
        end = self.terminated
        if end is None and self.job_exit is not None:
            end = self.job_exit[0]
        if end is None and self.post_exit is not None:
            end = self.post_exit[0]
        returned = self.job_exit[1] if self.job_exit is not None else 0
        if self.post_exit is not None and self.post_exit[1] == 0:
            accepted = f"returned {returned}; the POST script accepts it"
            return Outcome.COMPLETED, end, accepted if self.job_failed else ""
        if self.ended_early is not None:
            time, outcome, message = self.ended_early
            return outcome, time, message
        if self.post_exit is not None:
            return Outcome.FAILED, end, f"the POST script returned {self.post_exit[1]}"
        if self.job_exit is not None:
            if self.job_failed:
                return Outcome.FAILED, end, f"returned {returned}"
            unheard = "the trace ends before its POST script does" if self.post_started else ""
            return Outcome.COMPLETED, end, unheard
        if self.pre_exit is not None and self.pre_exit[1] != 0:
            time, code = self.pre_exit
            return Outcome.FAILED, time, f"the PRE script returned {code}"
        if self.interrupted is not None and self.started is not None:
            time, reason = self.interrupted
            return Outcome.CRASHED, time, reason
        return Outcome.UNFINISHED, None, "the trace ends before this attempt does"

    def _attempt(
        self,
        outcome: Outcome,
        submitted: float | None,
        started: float | None,
        ended: float | None,
        origin: float,
        message: str,
        trace_end: float | None = None,
    ) -> Attempt:
        duration = 0.0
        if started is not None:
            if ended is not None and ended < started:
                # Clocks are set back while jobs run; an execution still takes no negative time.
                self.mended += 1
                ended = started
            last_known = ended if ended is not None else trace_end
            if last_known is not None:
                duration = round(max(0.0, last_known - started), 6)
        is_last = trace_end is not None
        return Attempt(
            outcome=outcome,
            duration=duration,
            submitted=_relative(submitted, origin),
            started=_relative(started, origin),
            ended=_relative(ended, origin),
            exit_code=self.job_exit[1] if is_last and self.job_exit else None,
            host=self.host,
            message=message,
            logs=tuple(self.logs) if is_last else (),
            invocations=tuple(self.invocations) if is_last else (),
        )


def _relative(time: float | None, origin: float) -> float | None:
    """To the microsecond, which is as fine as any source: the rest is binary rounding."""
    return None if time is None else round(time - origin, 6)


def notes_on_attempts(submissions: list[Submission], never_ran: list[str]) -> list[str]:
    """What a reader should know about these jobs, in sentences."""
    notes = []
    mended = sum(submission.mended for submission in submissions)
    if mended:
        notes.append(f"{mended} executions ended before they started: taken as 0 seconds long")
    if never_ran:
        shown = never_ran[:_NAMES_SHOWN]
        more = ", ..." if len(never_ran) > _NAMES_SHOWN else ""
        notes.append(f"{len(never_ran)} jobs never ran: {', '.join(shown)}{more}")
    return notes
