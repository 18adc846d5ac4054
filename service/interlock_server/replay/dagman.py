"""The graph in an HTCondor DAGMan input file (`.dag`), as Pegasus 4 and 5 write it.

Described in the HTCondor manual, "DAGMan workflows". Only what makes the graph is read: JOB (and
its relatives NODE, SUBDAG, FINAL) and PARENT ... CHILD. Other commands say how to run, not what.
"""

from dataclasses import dataclass

from interlock_server.replay.source import numbered_lines
from interlock_server.replay.trace import TraceError


@dataclass(frozen=True, slots=True)
class Dag:
    """The nodes of a DAG in the file's order, each with its parents."""

    source: str
    parents: dict[str, tuple[str, ...]]


def parse(text: str, source: str) -> Dag:
    """Read a DAGMan input file.

    Raises:
        TraceError: naming the line that is too short, names an undeclared or repeated job, or
            pulls in another file, which is not supported.
    """
    parents: dict[str, dict[str, None]] = {}
    edges: list[tuple[int, str, str]] = []
    for number, line in numbered_lines(text):
        words = line.split()
        where = f"{source}:{number}"
        command = words[0].upper()
        if command in ("SPLICE", "INCLUDE"):
            raise TraceError(
                where, f"{command} pulls in another file, which is not supported", "inline it"
            )
        if command in ("JOB", "NODE", "FINAL", "SUBDAG"):
            position = 2 if command == "SUBDAG" else 1
            if len(words) <= position + 1:
                raise TraceError(where, f"{command} lacks a name or a file", "complete the line")
            if words[position] in parents:
                raise TraceError(
                    where, f"repeats the job {words[position]!r}", "name each job once"
                )
            parents[words[position]] = {}
        elif command == "PARENT":
            edges.extend((number, parent, child) for parent, child in _edges(words, where))
    for number, parent, child in edges:
        for name in (parent, child):
            if name not in parents:
                raise TraceError(
                    f"{source}:{number}", f"there is no job {name!r}", "declare it with JOB"
                )
        parents[child][parent] = None
    return Dag(source, {job: tuple(found) for job, found in parents.items()})


def _edges(words: list[str], where: str) -> list[tuple[str, str]]:
    keywords = [word.upper() for word in words]
    split = keywords.index("CHILD") if "CHILD" in keywords else 0
    if split < 2 or split == len(words) - 1:
        raise TraceError(where, "is not PARENT names CHILD names", "complete the line")
    return [(parent, child) for child in words[split + 1 :] for parent in words[1:split]]
