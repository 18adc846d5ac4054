"""Playing all that was recorded on one server."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.stubs import Stubs
from tests.vectors.comparison import Comparison
from tests.vectors.player import Player
from tests.vectors.recorded import Scenario

_ALONE = 50
"""Of so many scenarios that can be played in step, one is played alone."""


def play_all(stubs: Stubs, scenarios: Sequence[Scenario]) -> Comparison:
    """Play scenarios and compare the answers with the peer's."""
    player, comparison = Player(stubs), Comparison()
    in_step = [it for i, it in enumerate(scenarios) if it.in_step and i % _ALONE]
    alone = [it for i, it in enumerate(scenarios) if not (it.in_step and i % _ALONE)]
    for played in player.play_in_step(in_step):
        comparison.add(played)
    for scenario in alone:
        comparison.add(player.play_alone(scenario))
    return comparison
