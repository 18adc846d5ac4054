"""A directory that outlives test runs, for what takes long to fetch or to build.

Any number of processes may ask for the same entry at once: one builds it while the others wait. An
entry is whole or absent, since it is built aside and renamed into its place.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_REPOSITORY = Path(__file__).parents[2]


def root() -> Path:
    """The cache: `INTERLOCK_TEST_CACHE`, or `.cache` in the repository."""
    chosen = os.environ.get("INTERLOCK_TEST_CACHE")
    return Path(chosen).absolute() if chosen else _REPOSITORY / ".cache"


def build_once(name: str, build: Callable[[Path], None]) -> Path:
    """The cache's directory `name`; where it is missing, `build` fills it first.

    `name` must change whenever what `build` makes does: nothing is ever built again.
    """
    entry = root() / name
    if entry.exists():
        return entry
    with _locked(name), tempfile.TemporaryDirectory(dir=root(), prefix=f"{name}-") as aside:
        if not entry.exists():
            draft = Path(aside) / name
            draft.mkdir()
            draft.chmod(0o755)
            build(draft)
            draft.rename(entry)
    return entry


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Hold an entry's lock, which the system takes back from a process that dies."""
    root().mkdir(parents=True, exist_ok=True)
    with (root() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
