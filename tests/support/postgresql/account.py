"""The system account that a server runs as.

PostgreSQL refuses to run as root, as which tests run in many containers. A server is then given to
`nobody`, who must be able to reach the server's programs and its directory.
"""

import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict


class Identity(TypedDict, total=False):
    """Arguments of `subprocess.Popen` that say whom a process runs as."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """Whom a server runs as; None is whoever runs the tests."""

    other: pwd.struct_passwd | None

    @classmethod
    def choose(cls) -> "Account":
        """This process's own account, unless that is root's."""
        return cls(pwd.getpwnam("nobody") if os.getuid() == 0 else None)

    @property
    def identity(self) -> Identity:
        """How a child process becomes this account."""
        if self.other is None:
            return {}
        return {"user": self.other.pw_uid, "group": self.other.pw_gid, "extra_groups": []}

    def give(self, path: Path) -> None:
        """Make this account the owner of a file or a directory, not of what is in it."""
        if self.other is not None:
            os.chown(path, self.other.pw_uid, self.other.pw_gid)

    def reachable(self, tree: Path, spare: Path) -> Path:
        """A directory that this account can run programs from: `tree`, or a copy of it at `spare`.

        A cache below root's home is out of anybody else's reach.
        """
        if self.other is None or all(_open_to_all(step) for step in (tree, *tree.parents)):
            return tree
        if not spare.exists():
            shutil.copytree(tree, spare, symlinks=True)
        return spare


def _open_to_all(directory: Path) -> bool:
    return bool(directory.stat().st_mode & stat.S_IXOTH)
