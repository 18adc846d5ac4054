"""The table of where Interlock differs from the peer, read from the page that gives the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/decisions/0010-where-we-differ-from-the-peer.md"


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of the table."""

    quirk: str
    answers: int
    """How many recorded answers differ for this reason."""
    peer: str
    interlock: str


def read(page: Path = PAGE) -> list[Listed]:
    """Read the table's lines."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [
        Listed(quirk.strip("`"), int(answers), peer, interlock)
        for quirk, answers, peer, interlock in cells
    ]
