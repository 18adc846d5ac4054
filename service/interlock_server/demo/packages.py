"""What there is to index: the standard library, cut into packages, one task each."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MOST_FILES = 100
"""A package of more files becomes several tasks, so that no worker is left with half the work."""

_NOT_OURS = {"site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True, slots=True)
class Package:
    """Some files of the library that are indexed together."""

    name: str
    root: Path
    """The library's folder."""
    files: tuple[Path, ...]
    """Relative to the root."""


def standard_library() -> Path:
    """Answer the folder of this Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def find_packages(root: Path) -> list[Package]:
    """Answer the packages below a folder: first single modules by their first letter, then others.

    A package of more than `MOST_FILES` files comes in parts: `test-1`, `test-2`, ...
    """
    modules: dict[str, list[Path]] = {}
    folders: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.py")):
        file = path.relative_to(root)
        if _NOT_OURS.isdisjoint(file.parts) and path.is_file():
            if len(file.parts) == 1:
                modules.setdefault(f"modules-{file.name[0].lower()}", []).append(file)
            else:
                folders.setdefault(file.parts[0], []).append(file)
    return [
        Package(name, root, part)
        for group in (modules, folders)
        for whole, files in sorted(group.items())
        for name, part in _parts(whole, files)
    ]


def largest_first(packages: Iterable[Package]) -> list[Package]:
    """Order packages so that no large one is left for the end, when other workers are idle."""
    return sorted(packages, key=_size, reverse=True)


def _parts(name: str, files: list[Path]) -> Iterable[tuple[str, tuple[Path, ...]]]:
    if len(files) <= MOST_FILES:
        yield name, tuple(files)
        return
    for number, start in enumerate(range(0, len(files), MOST_FILES), 1):
        yield f"{name}-{number}", tuple(files[start : start + MOST_FILES])


def _size(package: Package) -> int:
    return sum((package.root / file).stat().st_size for file in package.files)
