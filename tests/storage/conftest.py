"""The conformance suite: what holds on every dialect. A visible difference between two is a bug."""

import pytest

from tests.support.runs import FlowRuns, Runs, TaskRuns
from tests.support.stubs import Stubs


@pytest.fixture(params=[FlowRuns, TaskRuns], ids=lambda kind: str(kind.kind))
def runs(request: pytest.FixtureRequest, stubs: Stubs) -> Runs:
    """The runs of each kind in turn."""
    made: Runs = request.param(stubs)
    return made
