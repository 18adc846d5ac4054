"""Real traces and recorded decisions, which are not part of the repository."""

import os
from pathlib import Path

import pytest

from tests.support.needs import Unavailable

_REPOSITORY = Path(__file__).parents[2]


def workflows_folder() -> Path:
    """The folder of recorded workflow runs; where there is none, the test is skipped, loudly."""
    return _data_folder("workflows", "REAL TRACES")


def logs_folder() -> Path:
    """The folder of real log files; where there is none, the test is skipped, loudly."""
    return _data_folder("logs", "REAL LOGS")


def _data_folder(name: str, what: str) -> Path:
    given = os.environ.get("INTERLOCK_SHARED_DATA")
    data = Path(given) if given else _REPOSITORY.parent / "shared" / "data"
    folder = data / name
    if not folder.is_dir():
        pytest.skip(
            f"{what} NOT TESTED: there is no {folder}; set INTERLOCK_SHARED_DATA to the folder "
            f"that holds {name}/"
        )
    return folder


def vectors_folder() -> Path:
    """The folder of a peer's recorded decisions. Raises Unavailable where there is none."""
    given = os.environ.get("INTERLOCK_SHARED_VECTORS")
    folder = Path(given) if given else _REPOSITORY.parent / "shared" / "vectors"
    if not folder.is_dir():
        raise Unavailable(
            f"RECORDED DECISIONS NOT COMPARED: there is no {folder}; set INTERLOCK_SHARED_VECTORS "
            "to the folder that holds pairs.json"
        )
    return folder
