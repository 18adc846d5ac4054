"""What a peer's server was recorded to answer: scenarios, read from files.

The files are not part of the repository; their README says how they are laid out. Every scenario
becomes the same here: runs to make, and steps in their order. Times are seconds from the moment of
proposing, or of reading.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.model.rules import State
from tests.model.wire import Seen

Answer = Seen
"""What one step was answered: `status`, `decided_state` and the like, and the run read back
(`run.state`, `run.run_count`, ...). Only what was recorded is there."""

_PENDING = State("PENDING", "Pending")
_RUNNING = State("RUNNING", "Running")

RUN = "run"
FLOW = "its flow run"

_SLOTS = "slots (ConcurrencyService)"
WAITING = {
    "task tag limit 1": _SLOTS,
    "task tag limit 2": _SLOTS,
    "task tag limit 0": _SLOTS,
    "two tags, all or none": _SLOTS,
    "retrying task releases its tag slot": _SLOTS,
    "deployment limit 1, ENQUEUE": _SLOTS,
    "deployment limit 1, CANCEL_NEW": _SLOTS,
    "global limit acquire and release": _SLOTS,
    "rate limit with decay": _SLOTS,
    "unknown, inactive and zero limits": _SLOTS,
}
"""The stories that can not be played yet, and what each of them waits for."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A run to make. `flow` names the run of the scenario that a task run is part of."""

    kind: str
    retries: int = 0
    retry_delay: float = 0
    deployment: bool = False
    initial: State = _PENDING
    flow: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is asked of a run, and what the peer answered.

    Without a state to propose, the run is to be resumed. Without an answer the step is part of the
    set-up.
    """

    run: str
    propose: State | None
    force: bool = False
    answer: Answer = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Runs, and what is asked of them in turn."""

    name: str
    runs: Mapping[str, Setup]
    steps: tuple[Step, ...]
    in_step: bool = True
    """Whether it can be played in step with others: it shares nothing with them."""


def read(folder: Path) -> tuple[list[Scenario], dict[str, str]]:
    """Answer the scenarios that can be played; and the names of those that wait, with what for."""
    scenarios: list[Scenario] = []
    for file in ("pairs", "sequences"):
        recorded = _load(folder / f"{file}.json")
        labels = {label: _labelled(*state) for label, state in recorded["states"].items()}
        scenarios += [
            _scenario(f"{file}[{i}]", scenario, labels)
            for i, scenario in enumerate(recorded["scenarios"])
        ]
    stories = _load(folder / "stories.json")["stories"]
    scenarios += [_told(story) for story in stories if story["story"] not in WAITING]
    return scenarios, WAITING


def _load(file: Path) -> Any:
    return json.loads(file.read_text())


def _labelled(type_: str, name: str, extra: Mapping[str, Any]) -> State:
    return State(
        type_,
        name,
        scheduled=extra.get("scheduled_in"),
        pause_timeout=extra.get("pause_timeout_in"),
        pause_key=extra.get("pause_key"),
        pause_reschedule=extra.get("pause_reschedule", False),
    )


def _scenario(name: str, recorded: Any, labels: Mapping[str, State]) -> Scenario:
    task_run, policy = recorded["kind"] == "task_run", recorded["policy"]
    run = Setup(
        recorded["kind"],
        policy.get("retries", 0),
        policy.get("retry_delay", 0),
        recorded["deployment"],
        labels[recorded["initial"]] if recorded["initial"] else _PENDING,
        FLOW if task_run else "",
    )
    runs = {FLOW: Setup("flow_run"), RUN: run} if task_run else {RUN: run}
    steps = [
        Step(RUN, labels[step["propose"]], step.get("force", False), _flat(step["answer"]))
        for step in recorded["steps"]
    ]
    if flow_state := recorded.get("flow_state"):
        steps.insert(0, Step(FLOW, labels[flow_state], force=True))
    return Scenario(name, runs, tuple(steps))


def _flat(answer: Mapping[str, Any]) -> Answer:
    run = {f"run.{key}": value for key, value in answer["run"].items()}
    return {key: value for key, value in answer.items() if key != "run"} | run


# --- stories --------------------------------------------------------------------------------------


def _told(story: Any) -> Scenario:
    setup = story["setup"]
    names = dict.fromkeys(step["run"] for step in story["steps"] if "run" in step)
    if "flow_policy" in setup:
        flow, policy = "f", setup["flow_policy"]
        runs = {flow: Setup("flow_run", policy["retries"], policy["retry_delay"])}
    elif setup.get("deployment"):
        flow, runs = "a", {"a": Setup("flow_run", deployment=True)}
    else:
        flow, runs = FLOW, {FLOW: Setup("flow_run")}
    runs |= {name: Setup("task_run", flow=flow) for name in names if name not in runs}
    begun = Step(flow, _RUNNING, force=True)
    steps = (begun, *_told_steps(story["steps"]))
    return Scenario(story["story"], runs, steps, in_step=False)


def _told_steps(recorded: Any) -> Iterator[Step]:
    steps = iter(recorded)
    for step in steps:
        if step.get("observe") == "resume answer":
            state = next(steps)
            yield Step("a", None, answer={"status": step["value"], "run.state": state["value"]})
            continue
        details = step["details"]
        yield Step(
            step["run"],
            State(
                step["propose"][0],
                step["propose"][1] or "",
                scheduled=step["scheduled_in"],
                pause_timeout=details.get("pause_timeout"),
                pause_key=details.get("pause_key"),
                pause_reschedule=details.get("pause_reschedule", False),
                cache_key=details.get("cache_key"),
                cache_expiration=details.get("cache_expiration"),
                refresh_cache=details.get("refresh_cache", False),
            ),
            step["force"],
            _flat(step["answer"]),
        )
