"""`docs/states.md` names every rule and every reason: people and programs look there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import interlock_server.rules
import pytest
from interlock_server.rules.flow_runs import FLOW_RUN_POLICY
from interlock_server.rules.frame import Policy
from interlock_server.rules.task_runs import TASK_RUN_POLICY

PAUSING = (Path(__file__).parents[2] / "docs" / "pausing.md").read_text()
PAGE = (Path(__file__).parents[2] / "docs" / "states.md").read_text()
FLOW_RUNS, _, TASK_RUNS = PAGE.partition("## The rules of task runs")
RULES = Path(interlock_server.rules.__file__).parent


@pytest.mark.parametrize(
    ("policy", "text"), [(FLOW_RUN_POLICY, FLOW_RUNS), (TASK_RUN_POLICY, TASK_RUNS)]
)
def test_the_page_names_the_rules_in_their_order(policy: Policy, text: str) -> None:
    places = [text.find(f"| `{rule.name}`") for rule in policy.rules]
    assert -1 not in places
    assert places == sorted(places)


def reasons(file: str, *makers: str) -> Iterator[str]:
    """The reasons that are given in a file's calls of some makers, where they are spelled out."""
    for node in ast.walk(ast.parse((RULES / file).read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in makers:
            (reason, *_) = node.args
            if isinstance(reason, ast.Constant):
                yield str(reason.value)


def test_the_page_names_every_reason() -> None:
    files = ("flow_runs.py", "task_runs.py", "shared.py")
    found = {reason for file in files for reason in reasons(file, "Reject", "Wait", "Abort")}
    assert len(found) > 15
    assert {reason for reason in found if f"`{reason}`" not in PAGE} == set()


def test_the_page_names_what_the_service_does_by_itself() -> None:
    files = ("heartbeats.py", "overdue.py", "with_their_flow_run.py")
    code = "".join((RULES / file).read_text() for file in files)
    found = set(re.findall(r'"([a-z]+(?:_[a-z]+)+|[A-Z]+_[A-Z_]+|LATE)"', code)) - {"NOT_RUNNING"}
    assert len(found) > 8
    assert {word for word in found if f"`{word}`" not in PAGE} == set()


def test_the_page_on_pausing_names_the_reasons_of_explanations() -> None:
    found = set(reasons("explanations.py", "Cause")) - {"NO_STATE"}
    assert len(found) > 15
    assert {reason for reason in found if f"`{reason}`" not in PAUSING} == set()
