"""What the tasks do. Nothing here knows of Interlock: any function can be a task."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import logging
import tokenize
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from interlock_server.demo.packages import Package

logger = logging.getLogger("demo.index")

OLDEST_GRAMMAR = (3, 9)
"""The strict reading takes no newer syntax. Every supported Python has modules that use some, such
as the `match` statements of `dataclasses` and `traceback`."""

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted, in a file or in many."""

    files: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    docstrings: int = 0
    unreadable: int = 0
    """Files that are no Python, such as those that test how syntax errors are told."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.files + other.files,
            self.lines + other.lines,
            self.functions + other.functions,
            self.classes + other.classes,
            self.docstrings + other.docstrings,
            self.unreadable + other.unreadable,
        )


@dataclass(frozen=True, slots=True)
class PackageIndex:
    """What a package holds."""

    package: str
    counts: Counts
    sha256: str
    """The digest of its files, one after the other."""


def index_package(package: Package, *, strict: bool) -> PackageIndex:
    """Read, count and digest the files of a package.

    Strictly: UTF-8, no syntax newer than `OLDEST_GRAMMAR`, and no warning of the compiler. Raises
    UnicodeDecodeError, SyntaxError (which such a warning becomes, too) or OSError, for the first
    file that is otherwise. Not strictly: by the encoding that a file declares and with all that
    this Python knows; a file that still can not be read is logged, and counted as such.
    """
    digest, counts = hashlib.sha256(), Counts()
    for file in package.files:
        try:
            source = (package.root / file).read_bytes()
            digest.update(source)
            found = count(read_strictly(source, file) if strict else read(source, file), source)
        except (OSError, SyntaxError, UnicodeError, ValueError, RecursionError) as error:
            if strict:
                raise
            logger.warning("%s can not be read: %s: %s", file, type(error).__name__, error)
            counts += Counts(files=1, unreadable=1)
            continue
        logger.info(
            "%s: %d lines, %d functions, %d classes",
            *(file, found.lines, found.functions, found.classes),
        )
        counts += found
    return PackageIndex(package.name, counts, digest.hexdigest())


def read_strictly(source: bytes, file: Path) -> ast.Module:
    """Parse what every Python since `OLDEST_GRAMMAR` can read, and read without a warning."""
    try:
        text = source.decode()
    except UnicodeDecodeError as error:
        # A SyntaxError names its file by itself.
        error.reason += f" in {file}"
        raise
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return ast.parse(text, str(file), feature_version=OLDEST_GRAMMAR)


def read(source: bytes, file: Path) -> ast.Module:
    """Parse what this Python can read."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source.decode(encoding), str(file))


def count(module: ast.Module, source: bytes) -> Counts:
    """Count what one file holds."""
    functions = classes = docstrings = 0
    for node in ast.walk(module):
        if isinstance(node, _DOCUMENTED):
            functions += isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            classes += isinstance(node, ast.ClassDef)
            docstrings += ast.get_docstring(node, clean=False) is not None
    return Counts(1, len(source.splitlines()), functions, classes, docstrings)


def write_report(indexes: Sequence[PackageIndex], folder: Path) -> Counts:
    """Write `report.json` and `report.txt` into a folder, and answer the sums."""
    total = sum((index.counts for index in indexes), Counts())
    ordered = sorted(indexes, key=lambda index: index.package)
    report = {"total": asdict(total), "packages": [asdict(index) for index in ordered]}
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    lines = [
        f"The Python standard library: {total.files:,} files, {total.lines:,} lines,",
        f"{total.functions:,} functions, {total.classes:,} classes, "
        f"{total.docstrings:,} docstrings; {total.unreadable:,} files are no Python.",
        "",
    ]
    lines += [
        f"{index.package:<24}{index.counts.lines:>10,} lines  sha256 {index.sha256[:16]}"
        for index in ordered
    ]
    (folder / "report.txt").write_text("\n".join(lines) + "\n")
    logger.info("wrote %s and report.txt", folder / "report.json")
    return total
