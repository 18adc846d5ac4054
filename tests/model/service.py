"""A model of the whole service: which runs there are, and what it remembers of them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

from tests.model.rules import Run, State, Verdict, abort


class Refused(Exception):
    """A call that is answered with an error, by its reason code."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a proposal: the decision, and the run after it."""

    verdict: Verdict
    state: State
    state_id: str
    run_count: int
    version: int


@dataclass(slots=True)
class Service:
    """All runs, those that are gone, and the calls that would be answered again."""

    runs: dict[str, Run] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    created: dict[str, Hashable] = field(default_factory=dict)
    """What each run was created with."""
    answered: dict[str, tuple[str, Hashable, Answer]] = field(default_factory=dict)
    """By proposal: the run, what was proposed, and what was answered."""
    cache: dict[str, list[tuple[Run, State]]] = field(default_factory=dict)

    def run(self, kind: str, run_id: str) -> Run:
        """Answer a run, for a call that would change it."""
        if run_id not in self.runs:
            raise Refused("DELETED" if run_id in self.deleted else f"{kind.upper()}_NOT_FOUND")
        return self.runs[run_id]

    def create(
        self, run_id: str, content: Hashable, run: Run, parent_id: str, first: State, now: float
    ) -> bool:
        """Make a run; answer whether it was made now."""
        if run_id in self.runs:
            if self.created[run_id] != content:
                raise Refused("ID_REUSED")
            return False
        if run_id in self.deleted:
            raise Refused("DELETED")
        parent = None
        if parent_id and run.kind == "task_run":
            parent = self.run("flow_run", parent_id)
        elif parent_id and (parent := self.runs.get(parent_id)) is None:
            raise Refused("TASK_RUN_NOT_FOUND")
        self.runs[run_id] = made = replace(run, parent=parent, cache=self.cache, history=[])
        self.created[run_id] = content
        made.create(first, now)
        return True

    def propose(
        self,
        kind: str,
        run_id: str,
        id_: str,
        content: Hashable,
        state: State | None,
        now: float,
        force: bool = False,
        expected_version: int = 0,
    ) -> Answer:
        """Decide about a proposal, or answer it again; without a state it is to resume the run."""
        run = self.run(kind, run_id)
        if id_ in self.answered:
            _, before, answer = self.answered[id_]
            if before != content:
                raise Refused("ID_REUSED")
            return answer
        if expected_version not in {0, run.version}:
            verdict = abort("VERSION_MISMATCH")
            run.remember(id_, verdict)
        elif state is None:
            verdict = run.resume(now, id_)
        else:
            verdict = run.propose(state, now, force, id_)
        assert run.state is not None
        answer = Answer(verdict, run.state, run.state_id, run.run_count, run.version)
        if verdict.status != "WAIT":
            self.answered[id_] = run_id, content, answer
        return answer

    def update(self, kind: str, run_id: str, version: int) -> None:
        """Change what no rule decides; with a version, only if the run has it."""
        run = self.run(kind, run_id)
        if version not in {0, run.version}:
            raise Refused("ETAG_MISMATCH")
        run.version += 1

    def delete(self, kind: str, run_id: str, version: int) -> None:
        """Delete a run with all that is part of it."""
        run = self.run(kind, run_id)
        if version not in {0, run.version}:
            raise Refused("ETAG_MISMATCH")
        parts = [id_ for id_, it in self.runs.items() if it.kind == "task_run" and it.parent is run]
        for id_ in (run_id, *parts):
            self.runs.pop(id_).deleted = True
            self.deleted.add(id_)
        self.answered = {
            id_: kept for id_, kept in self.answered.items() if kept[0] not in self.deleted
        }
