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

    def reaches(self, directory: Path) -> bool:
        """Whether this account can get to what lies in a directory."""
        steps = (directory, *directory.parents)
        return self.other is None or all(step.stat().st_mode & stat.S_IXOTH for step in steps)

    def reachable(self, tree: Path, spare: Path) -> Path:
        """A directory that this account can run programs from: `tree`, or a copy of it at `spare`.

        A cache below root's home is out of anybody else's reach.
        """
        if self.reaches(tree):
            return tree
        shutil.copytree(tree, spare, symlinks=True)
        return spare
