"""`docs/states.md` names every rule and every reason: people and programs look there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import interlock_server.rules
import pytest
from interlock_server.rules.flow_runs import FLOW_RUN_POLICY
from interlock_server.rules.frame import Policy
from interlock_server.rules.task_runs import TASK_RUN_POLICY

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


def reasons() -> Iterator[str]:
    for name in ("flow_runs.py", "task_runs.py", "shared.py"):
        for node in ast.walk(ast.parse((RULES / name).read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
                "Reject",
                "Wait",
                "Abort",
            ):
                (reason, *_) = node.args
                assert isinstance(reason, ast.Constant)
                yield str(reason.value)


def test_the_page_names_every_reason() -> None:
    missing = {reason for reason in reasons() if f"`{reason}`" not in PAGE}
    assert missing == set()
