"""`jobstate.log`, which Pegasus's monitord (and DAGMan itself) writes in a run's submit directory.

A line is `epoch job state condor-id-or-exit-code site walltime submit-sequence`; the lines about
the run itself are `epoch INTERNAL *** event argument ***`. Every submission of a job has a new
submit sequence, so a job with several was retried. Lines are in the order in which monitord came
to know, which is not the order of their times: times are taken as they stand, and nothing is
sorted by them.

The log knows no dependencies: these come from the `.dag` file that lies beside it.
"""

import re
from pathlib import Path

from interlock_server.replay import dagman
from interlock_server.replay.dagman import Dag
from interlock_server.replay.graph import validate
from interlock_server.replay.pegasus_attempts import Submission, notes_on_attempts
from interlock_server.replay.source import finite_number, numbered_lines, read_text, whole_number
from interlock_server.replay.trace import Outcome, Trace, TraceError, TraceTask

SOURCE_FORMAT = "Pegasus jobstate.log"

_COLUMNS = 7
_STATE = re.compile(r"[A-Z][A-Z_]*\Z")
_INTERRUPTIONS = {
    "JOB_EVICTED": "evicted",
    "JOB_HELD": "held",
    "REMOTE_ERROR": "remote error",
    "SHADOW_EXCEPTION": "shadow exception",
    "JOB_RECONNECT_FAILED": "could not reconnect",
}
"""HTCondor events that break off an execution, by what they say."""


def sibling_dag(path: Path) -> Dag | None:
    """The graph in the only `.dag` file in the file's folder; None if there is none.

    Raises:
        TraceError: there are several, or it can not be read.
    """
    candidates = sorted(path.parent.glob("*.dag"))
    if len(candidates) > 1:
        raise TraceError(
            str(path.parent),
            f"has several .dag files ({', '.join(c.name for c in candidates)})",
            "leave only the one of this run beside its jobstate.log",
        )
    if not candidates:
        return None
    return dagman.parse(read_text(candidates[0]), str(candidates[0]))


def parse(text: str, source: str, dag: Dag | None = None) -> Trace:
    """Read a jobstate.log.

    Args:
        text: the whole file.
        source: the file's name, for errors.
        dag: the graph. Its jobs that the log does not mention become tasks without attempts.
            Without it, the tasks are those that the log mentions, and have no parents.

    Raises:
        TraceError: naming the line that can not be read, or the job that the graph does not have.
    """
    log = _Log(source)
    for number, line in numbered_lines(text):
        log.read(number, line)
    return log.trace(dag)


class _Log:
    """What was read so far."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._submissions: dict[str, dict[int, Submission]] = {}
        self._first_line: dict[str, int] = {}
        self._seen: set[str] = set()
        self._times: list[float] = []
        self._started: list[float] = []
        self._finished: list[float] = []

    def read(self, number: int, line: str) -> None:
        where = f"{self._source}:{number}"
        words = line.split()
        time = finite_number(words[0])
        if time is None or time < 0:
            raise TraceError(
                where, f"begins with {words[0]!r}, not with a time", "begin it with epoch seconds"
            )
        if words[1:2] == ["INTERNAL"]:
            self._read_internal(time, words)
            return
        if len(words) < _COLUMNS:
            raise TraceError(
                where,
                f"has {len(words)} columns instead of {_COLUMNS}",
                "the line is cut short: complete or remove it",
            )
        job, state, value = words[1:4]
        sequence = whole_number(words[6])
        if not _STATE.match(state):
            raise TraceError(where, f"{state!r} is no job state", "states are in capitals")
        if sequence is None:
            raise TraceError(
                where, f"the submit sequence is {words[6]!r}", "it must be a whole number"
            )
        if line in self._seen:
            # DAGMan repeats what it had written when it recovers from a crash.
            return
        self._seen.add(line)
        self._times.append(time)
        self._first_line.setdefault(job, number)
        submission = self._submissions.setdefault(job, {}).setdefault(sequence, Submission())
        _apply(submission, state, time, value, where)

    def trace(self, dag: Dag | None) -> Trace:
        if not self._submissions and dag is None:
            raise TraceError(
                self._source, "no job was submitted in this run", "give the log of one that ran"
            )
        parents: dict[str, tuple[str, ...]] = dict.fromkeys(self._submissions, ())
        notes = ["no .dag file lies beside the log: the dependencies are not known"]
        if dag is not None:
            parents, notes = dag.parents, []
            for job, number in self._first_line.items():
                if job not in parents:
                    raise TraceError(
                        f"{self._source}:{number}",
                        f"job {job!r} is not in {dag.source}",
                        "put the .dag file of this run beside it",
                    )
        origin = min(self._started or self._times, default=0.0)
        end = max(self._finished or self._times, default=origin)
        tasks = [self._task(job, found, origin, end) for job, found in parents.items()]
        never_ran = [task.id for task in tasks if not task.attempts]
        every = [s for found in self._submissions.values() for s in found.values()]
        if not self._finished:
            notes.append("the log has no DAGMAN_FINISHED: the run may have gone on")
        trace = Trace(
            name=_name(self._source, dag),
            source_format=SOURCE_FORMAT,
            tasks=tuple(tasks),
            makespan=max(0.0, end - origin),
            notes=tuple(notes + notes_on_attempts(every, never_ran)),
        )
        return validate(trace, self._source)

    def _read_internal(self, time: float, words: list[str]) -> None:
        if "DAGMAN_STARTED" in words:
            self._started.append(time)
        elif "DAGMAN_FINISHED" in words:
            self._finished.append(time)

    def _task(self, job: str, parents: tuple[str, ...], origin: float, end: float) -> TraceTask:
        attempts = [
            attempt
            for _, submission in sorted(self._submissions.get(job, {}).items())
            for attempt in submission.attempts(origin, end)
        ]
        return TraceTask(id=job, name=job, parents=parents, attempts=tuple(attempts))


def _apply(submission: Submission, state: str, time: float, value: str, where: str) -> None:
    """Add one state to the submission's story. States that tell nothing new are passed over."""
    match state:
        case "SUBMIT":
            submission.submitted = time
        case "EXECUTE":
            submission.execute(time)
        case "JOB_TERMINATED":
            submission.terminated = time
        case "JOB_SUCCESS" | "JOB_FAILURE":
            submission.job_exit = (time, _exit_code(value, state, where))
            submission.job_failed = state == "JOB_FAILURE"
        case "PRE_SCRIPT_SUCCESS" | "PRE_SCRIPT_FAILURE" | "PRE_SCRIPT_FAILED":
            submission.pre_exit = (time, _script_exit(state, value))
        case "POST_SCRIPT_STARTED":
            submission.post_started = True
        case "POST_SCRIPT_SUCCESS" | "POST_SCRIPT_FAILURE" | "POST_SCRIPT_FAILED":
            submission.post_exit = (time, _script_exit(state, value))
        case "JOB_ABORTED":
            submission.ended_early = (time, Outcome.CANCELLED, "removed from the queue")
        case "SUBMIT_FAILED" | "SUBMIT_FAILURE":
            submission.ended_early = (time, Outcome.CRASHED, "the scheduler did not accept it")
        case _ if state in _INTERRUPTIONS:
            submission.interrupted = (time, _INTERRUPTIONS[state])


def _script_exit(state: str, value: str) -> int:
    """0 for success, else what the script returned. The state's name decides, since what DAGMan
    writes beside it is a condor id, unlike monitord.
    """
    return 0 if state.endswith("SUCCESS") else whole_number(value) or 1


def _exit_code(value: str, state: str, where: str) -> int:
    code = whole_number(value)
    if code is None:
        raise TraceError(
            where, f"{state} with {value!r} for an exit code", "it must be a whole number"
        )
    return code


def _name(source: str, dag: Dag | None) -> str:
    """The workflow's: Pegasus calls the file `name-index.dag`."""
    if dag is None:
        return Path(source).parent.name or "workflow"
    return re.sub(r"-\d+\Z", "", Path(dag.source).stem)
