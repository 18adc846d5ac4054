"""Monitord events of Pegasus (`.bp` files): NetLogger best-practice lines in the Stampede schema.

A line is `key=value` pairs with a space between them; a value with spaces stands in double quotes.
The schema is Pegasus's `stampede-schema.yang` (revisions 2011-05-04 to 2016-01-06).

Pegasus plans an abstract workflow of tasks into an executable one of jobs: it clusters many small
tasks into one job, and adds jobs that move data. **A job becomes a task of the trace.** Jobs are
what is submitted, retried and seen in a state, in these events as in `pegasus-status`; for a task
inside a cluster nothing but its run time is known. What the abstract workflow adds is kept beside
it: each job names the tasks clustered into it, and each attempt the programs that it ran.

Times are those of the submit host. The invocations' own times come from the machines that ran
them, in real files eight hours off, and are not used.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote

from interlock_server.replay.graph import validate
from interlock_server.replay.pegasus_attempts import Submission, notes_on_attempts
from interlock_server.replay.source import finite_number, numbered_lines, whole_number
from interlock_server.replay.trace import Invocation, Outcome, Trace, TraceError, TraceTask

SOURCE_FORMAT = "Pegasus monitord events"

_PREFIX = "stampede."
_PAIR = re.compile(r'([^\s="]+)=("(?:[^"\\]|\\.)*"(?!\S)|[^\s"]\S*|(?=\s|\Z))\s*')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Event:
    """One line. Its accessors raise a `TraceError` that names the line."""

    where: str
    name: str
    """Without the "stampede." that all of them begin with."""
    fields: dict[str, str]

    def text(self, key: str) -> str:
        """The value, which must be there and not be empty."""
        value = self.fields.get(key, "")
        if not value:
            raise TraceError(self.where, f"{self.name} has no {key}", f"add {key}=...")
        return value

    def whole(self, key: str) -> int:
        """The value as a whole number."""
        value = self.text(key)
        number = whole_number(value)
        if number is None:
            raise TraceError(self.where, f"{key} is {value!r}", "it must be a whole number")
        return number

    def exit_code(self) -> int:
        """The exit code; where there is none, the status, which is 0 or -1."""
        return self.whole("exitcode" if "exitcode" in self.fields else "status")

    def time(self) -> float:
        """Epoch seconds. The schema allows ISO 8601 and epoch seconds."""
        value = self.text("ts")
        seconds = finite_number(value)
        if seconds is not None:
            return seconds
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise TraceError(
                self.where, f"ts is {value!r}", "it must be ISO 8601 or epoch seconds"
            ) from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def read_events(text: str, source: str) -> Iterator[Event]:
    """The file's events in its order, all of them, also those of no interest to a trace.

    Raises:
        TraceError: naming the line that is no list of key=value pairs, or no Stampede event.
    """
    for number, line in numbered_lines(text):
        where = f"{source}:{number}"
        fields: dict[str, str] = {}
        position, line = 0, line.strip()
        while position < len(line):
            pair = _PAIR.match(line, position)
            if pair is None:
                raise TraceError(
                    where,
                    f"column {position + 1} does not begin a key=value pair",
                    "the line may be cut short: complete or remove it",
                )
            fields[pair[1]] = _unquoted(pair[2])
            position = pair.end()
        name = fields.get("event", "")
        if not name.startswith(_PREFIX):
            raise TraceError(where, "has no event=stampede...", "give monitord's own events")
        yield Event(where, name.removeprefix(_PREFIX), fields)


def parse(text: str, source: str) -> Trace:
    """Read monitord events.

    Args:
        text: the whole file.
        source: the file's name, for errors.

    Raises:
        TraceError: naming the line that can not be read, that speaks of an unknown job, or that
            belongs to another workflow than the lines before.
    """
    run = _Run(source)
    for event in read_events(text, source):
        run.add(event)
    return run.trace()


class _Run:
    """What was read so far."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._workflow = ""
        self._label = "workflow"
        self._jobs: dict[str, dict[str, str]] = {}
        self._parents: dict[str, dict[str, None]] = {}
        self._tasks: dict[str, dict[str, None]] = {}
        self._submissions: dict[str, dict[int, Submission]] = {}
        self._times: list[float] = []
        self._started: list[float] = []
        self._finished: list[float] = []

    def add(self, event: Event) -> None:
        self._check_workflow(event)
        match event.name:
            case "wf.plan":
                self._label = event.fields.get("dax.label") or self._label
            case "xwf.start":
                self._started.append(event.time())
            case "xwf.end":
                self._finished.append(event.time())
            case "job.info":
                self._add_job(event)
            case "job.edge":
                parent, child = self._job(event, "parent.job.id"), self._job(event, "child.job.id")
                self._parents[child][parent] = None
            case "wf.map.task_job":
                self._tasks[self._job(event)][event.text("task.id")] = None
            case name if name.startswith("job_inst."):
                self._times.append(event.time())
                _apply(self._submission(event), event)
            case "inv.end":
                self._submission(event).invocations.append(_invocation(event))

    def trace(self) -> Trace:
        origin = min(self._started or self._times, default=0.0)
        end = max(self._finished or self._times, default=origin)
        tasks = [self._task(job, origin, end) for job in self._jobs]
        never_ran = [task.id for task in tasks if not task.attempts]
        every = [s for found in self._submissions.values() for s in found.values()]
        notes = [] if self._finished else ["there is no xwf.end event: the run may have gone on"]
        trace = Trace(
            name=self._label,
            source_format=SOURCE_FORMAT,
            tasks=tuple(tasks),
            makespan=max(0.0, end - origin),
            notes=tuple(notes + notes_on_attempts(every, never_ran)),
        )
        return validate(trace, self._source)

    def _check_workflow(self, event: Event) -> None:
        workflow = event.fields.get("xwf.id", "")
        if workflow and self._workflow and workflow != self._workflow:
            raise TraceError(
                event.where,
                f"belongs to workflow {workflow!r}, the lines before to {self._workflow!r}",
                "give the events of one workflow: keep the lines with one xwf.id",
            )
        self._workflow = workflow or self._workflow

    def _add_job(self, event: Event) -> None:
        job = event.text("job.id")
        described = {key: value for key, value in event.fields.items() if key != "ts"}
        if self._jobs.setdefault(job, described) != described:
            # A monitord that was restarted repeats itself; it does not contradict itself.
            raise TraceError(
                event.where, f"describes the job {job!r} differently again", "describe it once"
            )
        self._parents.setdefault(job, {})
        self._tasks.setdefault(job, {})
        self._submissions.setdefault(job, {})

    def _job(self, event: Event, key: str = "job.id") -> str:
        job = event.text(key)
        if job not in self._jobs:
            raise TraceError(
                event.where, f"{key} {job!r} has no job.info event before", "add that event"
            )
        return job

    def _submission(self, event: Event) -> Submission:
        submissions = self._submissions[self._job(event)]
        return submissions.setdefault(event.whole("job_inst.id"), Submission())

    def _task(self, job: str, origin: float, end: float) -> TraceTask:
        attempts = [
            attempt
            for _, submission in sorted(self._submissions[job].items())
            for attempt in submission.attempts(origin, end)
        ]
        return TraceTask(
            id=job,
            name=job,
            parents=tuple(self._parents[job]),
            attempts=tuple(attempts),
            kind=self._jobs[job].get("type_desc", ""),
            abstract_tasks=tuple(self._tasks[job]),
        )


def _apply(submission: Submission, event: Event) -> None:
    """Add one event to the submission's story."""
    time = event.time()
    match event.name.removeprefix("job_inst."):
        case "submit.start":
            submission.submitted = time
        case "submit.end" if event.whole("status") != 0:
            submission.ended_early = (time, Outcome.CRASHED, "the scheduler did not accept it")
        case "main.start":
            submission.execute(time)
        case "main.term" if event.whole("status") != 0:
            submission.interrupted = (time, "evicted")
        case "main.term":
            submission.terminated = time
        case "main.end":
            code = event.exit_code()
            submission.job_exit = (time, code)
            submission.job_failed = code != 0
            submission.logs = _lines(event, "stdout.text") + _lines(event, "stderr.text")
        case "held.start":
            submission.interrupted = (time, "held")
        case "abort.info":
            submission.ended_early = (time, Outcome.CANCELLED, "removed from the queue")
        case "pre.end":
            submission.pre_exit = (time, event.exit_code())
        case "post.start":
            submission.post_started = True
        case "post.end":
            submission.post_exit = (time, event.exit_code())
        case "host.info":
            submission.host = event.fields.get("hostname") or submission.host


def _invocation(event: Event) -> Invocation:
    duration = 0.0
    if "dur" in event.fields:
        found = finite_number(event.text("dur"))
        if found is None or found < 0:
            raise TraceError(
                event.where,
                f"dur is {event.text('dur')!r}",
                "it must be seconds, finite and not negative",
            )
        duration = found
    return Invocation(
        transformation=event.fields.get("transformation", ""),
        task_id=event.fields.get("task.id") or None,
        duration=duration,
        exit_code=event.whole("exitcode") if "exitcode" in event.fields else None,
    )


def _lines(event: Event, key: str) -> list[str]:
    """The output under the key; monitord percent-encodes line ends and quotes."""
    text = unquote(event.fields.get(key, ""))
    return text.removesuffix("\n").split("\n") if text else []


def _unquoted(value: str) -> str:
    return _ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value
