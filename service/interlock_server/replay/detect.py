"""Which format is this file? The content decides; the name helps where the content is broken."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from interlock_server.replay import nextflow, pegasus_events, pegasus_jobstate, wfformat
from interlock_server.replay.source import numbered_lines, read_text
from interlock_server.replay.trace import Trace, TraceError

_JOBSTATE_LINE = re.compile(r"\d+(?:\.\d+)? (?:INTERNAL \*\*\* |\S+ [A-Z_]+ )")


@dataclass(frozen=True, slots=True)
class _Format:
    described: str
    begins: Callable[[str], bool]
    """Whether a file whose first line this is has this format."""
    named: Callable[[str], bool]
    """Whether a file of this name should have this format."""
    parse: Callable[[str, Path], Trace]


_FORMATS = (
    _Format(
        "WfFormat JSON (1.3 to 1.6)",
        lambda line: line.lstrip().startswith("{"),
        lambda name: name.endswith(".json"),
        lambda text, path: wfformat.parse(text, str(path)),
    ),
    _Format(
        "Pegasus jobstate.log (with its .dag file beside it)",
        lambda line: bool(_JOBSTATE_LINE.match(line)),
        lambda name: name == "jobstate.log",
        lambda text, path: pegasus_jobstate.parse(
            text, str(path), pegasus_jobstate.sibling_dag(path)
        ),
    ),
    _Format(
        "Pegasus monitord events (.bp)",
        lambda line: "event=stampede." in line,
        lambda name: name.endswith(".bp"),
        lambda text, path: pegasus_events.parse(text, str(path)),
    ),
    _Format(
        "Nextflow trace file (execution_trace.txt)",
        lambda line: {"task_id", "status"} <= set(line.split("\t")),
        lambda name: name.endswith((".txt", ".tsv")) and "trace" in name,
        lambda text, path: nextflow.parse(text, str(path)),
    ),
)


def load(path: Path) -> Trace:
    """Read a recorded workflow run, in whichever of the known formats it is.

    Nothing but the file is read; for a jobstate.log, also the `.dag` file beside it. Attempts have
    the times that the source recorded, or none.

    Raises:
        TraceError: the file can not be read, has no known format (those known are listed), or is
            unsound: then the error names the line or the JSON path.
    """
    text = read_text(path)
    first_line = next(line for _, line in numbered_lines(text))
    fitting = [known for known in _FORMATS if known.begins(first_line)]
    fitting += [known for known in _FORMATS if known.named(path.name.lower())]
    if fitting:
        return fitting[0].parse(text, path)
    raise TraceError(
        f"{path}:1",
        "has none of the known formats",
        f"give one of: {', '.join(known.described for known in _FORMATS)}",
    )
