"""SQLite 3.24, the oldest that Interlock supports, in place of the one that the machine has.

Python's `sqlite3` takes its SQLite from a shared library, so a library preloaded into a process
replaces it: `subprocess.run(..., env=os.environ | sqlite324.environment())`.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tests.support import cache, npm
from tests.support.needs import Unavailable

VERSION = "3.24.0"

_PACKAGE, _RELEASE = "better-sqlite3", "4.2.0"
"""A package that carries the source of exactly this version."""

_SHIM = Path(__file__).with_suffix(".c")

_OPTIONS = [
    "-DSQLITE_THREADSAFE=1",
    "-DSQLITE_ENABLE_COLUMN_METADATA",
    # Python's module links to it. All that a distribution might add besides, such as JSON, is left
    # out: what Interlock needs of SQLite must be in every build.
    "-DSQLITE_ENABLE_DESERIALIZE",
]


def library() -> Path:
    """The shared library, built now if need be. Raises Unavailable where it can't be."""
    return cache.build_once(f"sqlite-{VERSION}", _build) / "libsqlite3.so.0"


def environment() -> dict[str, str]:
    """The variables to add to a process's environment."""
    others = os.environ.get("LD_PRELOAD")
    return {"LD_PRELOAD": f"{library()}:{others}" if others else str(library())}


def _build(into: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        raise Unavailable(f"no SQLite {VERSION}: there is no C compiler `cc` to build it with")
    package, source = into / "package", into / "source"
    package.mkdir()
    source.mkdir()
    npm.unpack(_PACKAGE, _RELEASE, package)
    (archive,) = (package / "deps").glob("sqlite-autoconf-*.tar.gz")
    npm.untar(archive, source)
    if f'#define SQLITE_VERSION        "{VERSION}"' not in (source / "sqlite3.h").read_text():
        raise Unavailable(f"{_PACKAGE} {_RELEASE} does not carry SQLite {VERSION}")
    # -O1 halves the wait for the first run; -w, since nobody will change the code warned about.
    command = [compiler, "-O1", "-w", "-fPIC", "-shared", "-Wl,-soname,libsqlite3.so.0", *_OPTIONS]
    inputs = ["-I", str(source), str(source / "sqlite3.c"), str(_SHIM), "-lpthread", "-ldl"]
    done = subprocess.run(
        [*command, "-o", str(into / "libsqlite3.so.0"), *inputs], capture_output=True, text=True
    )
    if done.returncode != 0:
        raise Unavailable(f"no SQLite {VERSION}: its build failed: {done.stderr[-1000:]}")
    shutil.rmtree(package)
    shutil.rmtree(source)
