"""Certificates for tests, made by the `openssl` of the machine."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.needs import Unavailable


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, as PEM files."""

    cert: Path
    key: Path


class Authority:
    """A CA, in a folder of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._pair = Pair(folder / "ca.pem", folder / "ca.key")
        _openssl(
            *_new_certificate(name, self._pair),
            *["-addext", "keyUsage=critical,keyCertSign"],
        )

    @property
    def cert(self) -> Path:
        """The certificate to trust."""
        return self._pair.cert

    def issue(self, name: str, *, passphrase: str = "") -> Pair:
        """Make a certificate for a host's or a user's name; a passphrase locks its key."""
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        _openssl(
            *_new_certificate(name, pair, passphrase),
            *["-addext", f"subjectAltName=DNS:{name}", "-addext", "basicConstraints=CA:FALSE"],
            *["-CA", str(self._pair.cert), "-CAkey", str(self._pair.key)],
        )
        return pair


def _new_certificate(name: str, pair: Pair, passphrase: str = "") -> list[str]:
    locked = ["-passout", f"pass:{passphrase}"] if passphrase else ["-noenc"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *locked]
    files = ["-keyout", str(pair.key), "-out", str(pair.cert)]
    return ["req", "-x509", "-subj", f"/CN={name}", "-days", "2", *key, *files]


def _openssl(*words: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        raise Unavailable("no certificates: there is no program `openssl`")
    done = subprocess.run([program, *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"no certificates: {done.stderr.strip()}")
