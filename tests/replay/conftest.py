import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def workflows() -> Path:
    """The folder of real traces, which are not part of the repository."""
    given = os.environ.get("INTERLOCK_SHARED_DATA")
    data = Path(given) if given else _REPOSITORY.parent / "shared" / "data"
    folder = data / "workflows"
    if not folder.is_dir():
        pytest.skip(
            f"REAL TRACES NOT TESTED: there is no {folder}; set INTERLOCK_SHARED_DATA to the "
            "folder that holds workflows/"
        )
    return folder
