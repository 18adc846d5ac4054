"""What clients sent and were answered, and whether that agrees with what the service has stored.

Pure: it knows no service and no clock. `load` fills a history, `readback` reads what is stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Answer:
    """What a proposal was answered: the verdict, and the state that the run then had."""

    verdict: str
    state_id: str


@dataclass(frozen=True, slots=True)
class StoredTransition:
    """An entry of a run's history. `state_id` and `state_time` are set where it wrote a state."""

    id: str
    verdict: str
    state_id: str = ""
    state_type: str = ""
    state_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it is read back, its history oldest first."""

    id: str
    run_count: int
    state_id: str
    transitions: Sequence[StoredTransition]


@dataclass(frozen=True, slots=True)
class StoredLine:
    """A line of a log as it is read back."""

    ordinal: int
    message: str


@dataclass(frozen=True, slots=True)
class _Proposal:
    client: str
    run_id: str


@dataclass(slots=True)
class _Producer:
    batches: list[list[str]] = field(default_factory=list)
    acknowledged: int = 0


class History:
    """What all clients of a test have sent, and what they were answered."""

    def __init__(self) -> None:
        self._proposals: dict[str, _Proposal] = {}
        self._answers: dict[str, list[Answer]] = defaultdict(list)
        self._producers: dict[tuple[str, str], _Producer] = defaultdict(_Producer)

    # --- recording ---

    def proposed(self, client: str, proposal_id: str, run_id: str) -> None:
        """Note that a client is about to propose a state."""
        self._proposals[proposal_id] = _Proposal(client, run_id)

    def answered(self, proposal_id: str, answer: Answer) -> None:
        """Note an answer. A proposal that was sent twice may have two, which must be equal."""
        self._answers[proposal_id].append(answer)

    def appended(self, producer: str, run_id: str, lines: Sequence[str]) -> int:
        """Note that a producer is about to append lines to a log; answer the batch's number."""
        batches = self._producers[producer, run_id].batches
        batches.append(list(lines))
        return len(batches)

    def acknowledged(self, producer: str, run_id: str, number: int) -> None:
        """Note that a producer was told that its batches up to a number are durable."""
        known = self._producers[producer, run_id]
        known.acknowledged = max(known.acknowledged, number)

    # --- what is known ---

    @property
    def run_ids(self) -> set[str]:
        """The runs that states were proposed for."""
        return {proposal.run_id for proposal in self._proposals.values()}

    @property
    def log_ids(self) -> set[str]:
        """The runs whose logs were appended to."""
        return {run_id for _, run_id in self._producers}

    @property
    def unanswered(self) -> set[str]:
        """The proposals that were sent and never answered."""
        return self._proposals.keys() - self._answers.keys()

    @property
    def progress(self) -> int:
        """How many proposals were answered, and how many batches acknowledged, so far."""
        batches = sum(producer.acknowledged for producer in self._producers.values())
        return len(self._answers) + batches

    # --- checking ---

    def problems(
        self, runs: Iterable[StoredRun], logs: Mapping[str, Sequence[StoredLine]]
    ) -> list[str]:
        """Compare with what is stored; answer in words what should not be, empty: all is well."""
        by_id = {run.id: run for run in runs}
        found = [f"run {run_id} was not read back" for run_id in self.run_ids - by_id.keys()]
        found += [f"log {run_id} was not read back" for run_id in self.log_ids - logs.keys()]
        for run in by_id.values():
            found += _problems_of_run(run)
        found += self._problems_of_answers(by_id)
        for run_id, lines in logs.items():
            found += self._problems_of_log(run_id, lines)
        return found

    def _problems_of_answers(self, runs: Mapping[str, StoredRun]) -> list[str]:
        found = []
        stored: dict[str, list[tuple[str, StoredTransition]]] = defaultdict(list)
        for run in runs.values():
            for transition in run.transitions:
                stored[transition.id].append((run.id, transition))
        for id_, places in stored.items():
            if len(places) > 1:
                found.append(f"proposal {id_} is stored {len(places)} times")
        for id_, proposal in self._proposals.items():
            who = f"proposal {id_} of {proposal.client}"
            answers = self._answers.get(id_, [])
            # A WAIT is not remembered: the proposal may be sent again, and then be decided.
            kept = [answer for answer in answers if answer.verdict != "WAIT"]
            if len(set(kept)) > 1:
                found.append(f"{who} was answered differently: {kept}")
            places = stored.get(id_, [])
            if kept and not places:
                found.append(f"{who} was answered {kept[0].verdict}, and is not stored")
            for run_id, transition in places:
                if run_id != proposal.run_id:
                    found.append(f"{who} is stored in run {run_id}, not in {proposal.run_id}")
                for answer in kept:
                    found += _problems_of_answer(who, answer, transition, runs[run_id])
        return found

    def _problems_of_log(self, run_id: str, lines: Sequence[StoredLine]) -> list[str]:
        found = []
        ordinals = [line.ordinal for line in lines]
        if ordinals != list(range(len(ordinals))):
            found.append(f"log {run_id} has gaps or repetitions in its ordinals")
        messages = [line.message for line in lines]
        known = set()
        for (producer, log), sent in self._producers.items():
            if log != run_id:
                continue
            ours = {line for batch in sent.batches for line in batch}
            known |= ours
            stored = [message for message in messages if message in ours]
            expected: list[str] = []
            allowed = [expected[:]] if sent.acknowledged == 0 else []
            for number, batch in enumerate(sent.batches, 1):
                expected += batch
                if number >= sent.acknowledged:
                    allowed.append(expected[:])
            if stored not in allowed:
                found.append(
                    f"log {run_id} has of producer {producer} {len(stored)} lines, not its first "
                    f"{len(allowed[0])} to {len(allowed[-1])} in order"
                )
        if strangers := [message for message in messages if message not in known]:
            found.append(f"log {run_id} has lines that nobody sent, as {strangers[0]!r}")
        return found


def _problems_of_run(run: StoredRun) -> list[str]:
    found = []
    written = [transition for transition in run.transitions if transition.state_id]
    running = sum(transition.state_type == "RUNNING" for transition in written)
    if run.run_count != running:
        found.append(f"run {run.id} has run_count {run.run_count}, and {running} times RUNNING")
    times = [transition.state_time for transition in written if transition.state_time is not None]
    if any(later <= earlier for earlier, later in pairwise(times)):
        found.append(f"run {run.id} has timestamps that do not grow: {times}")
    last = written[-1].state_id if written else ""
    if run.state_id != last:
        found.append(f"run {run.id} is in state {run.state_id}, its history ends in {last}")
    return found


def _problems_of_answer(
    who: str, answer: Answer, transition: StoredTransition, run: StoredRun
) -> list[str]:
    found = []
    if answer.verdict != transition.verdict:
        found.append(f"{who} was answered {answer.verdict}, stored is {transition.verdict}")
    states = {transition.state_id for transition in run.transitions if transition.state_id}
    if transition.state_id and answer.state_id != transition.state_id:
        found.append(f"{who} was answered another state than it wrote")
    elif answer.state_id and answer.state_id not in states:
        found.append(f"{who} was answered state {answer.state_id}, which the run never had")
    return found
