"""Thousands of decisions that a peer's server was recorded to make, compared with Interlock's."""

from collections.abc import Sequence

import pytest

from tests.support import shared_data
from tests.support.needs import Unavailable, go_without
from tests.support.stubs import Stubs
from tests.vectors import listed, recorded, report
from tests.vectors.playing import play_all
from tests.vectors.recorded import Scenario


@pytest.fixture(scope="module")
def scenarios() -> Sequence[Scenario]:
    try:
        return recorded.read(shared_data.vectors_folder())[0]
    except Unavailable as reason:
        go_without("VECTORS", reason)


def test_answers_are_the_peers_but_for_what_the_table_lists(
    server: Stubs, scenarios: Sequence[Scenario]
) -> None:
    comparison = play_all(server, scenarios)
    assert comparison.scenarios == len(scenarios)
    assert report.problems(comparison, listed.read()) == []
