from pathlib import Path

import pytest

from tests.support.shared_data import workflows_folder


@pytest.fixture(scope="session")
def workflows() -> Path:
    """The folder of real traces, which are not part of the repository."""
    return workflows_folder()
