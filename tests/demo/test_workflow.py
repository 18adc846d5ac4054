"""What the tasks of the demo read, count, and can not read."""

import hashlib
import json
import logging
from pathlib import Path

import pytest
from interlock_server.demo.packages import Package, find_packages, standard_library
from interlock_server.demo.workflow import Counts, PackageIndex, index_package, write_report

SOURCE = b'''"""A module."""


class Box:
    """A class."""

    def open(self):
        """A method."""

    async def close(self):
        pass
'''


def package(root: Path, **files: bytes) -> Package:
    for name, content in files.items():
        (root / f"{name}.py").write_bytes(content)
    return Package("box", root, tuple(Path(f"{name}.py") for name in files))


def test_a_package_is_counted_and_digested(tmp_path: Path) -> None:
    found = index_package(package(tmp_path, one=SOURCE, two=b"x = 1\n"), strict=True)
    assert found.counts == Counts(files=2, lines=12, functions=2, classes=1, docstrings=3)
    assert found.sha256 == hashlib.sha256(SOURCE + b"x = 1\n").hexdigest()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"match 1:\n    case _:\n        pass\n", SyntaxError),
        (b"# -*- coding: latin-1 -*-\nx = '\xe9'\n", UnicodeDecodeError),
        (b"x = '\\d'\n", SyntaxError),
    ],
    ids=["newer syntax", "not UTF-8", "a warning of the compiler"],
)
def test_what_is_not_strict_python_fails_at_first_and_is_read_again(
    tmp_path: Path, content: bytes, error: type[Exception]
) -> None:
    these = package(tmp_path, odd=content)
    with pytest.raises(error, match=r"odd\.py"):
        index_package(these, strict=True)
    assert index_package(these, strict=False).counts == Counts(1, content.count(b"\n"))


@pytest.mark.parametrize("content", [b"print 'two'\n", b"x = '\xe9'\n", b"x = 1\0\n"])
def test_a_file_that_is_no_python_is_counted_and_said(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    these = package(tmp_path, broken=content, fine=b"x = 1\n")
    with caplog.at_level(logging.INFO, "demo.index"):
        found = index_package(these, strict=False)
    assert found.counts == Counts(files=2, lines=1, unreadable=1)
    assert found.sha256 == hashlib.sha256(content + b"x = 1\n").hexdigest()
    [warning] = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert warning.getMessage().startswith("broken.py can not be read: ")


def test_this_pythons_library_has_something_that_is_not_strict() -> None:
    library = standard_library()
    [modules] = [each for each in find_packages(library) if each.name == "modules-d"]
    dataclasses = Package("dataclasses", library, (Path("dataclasses.py"),))
    assert dataclasses.files[0] in modules.files
    with pytest.raises(SyntaxError, match=r"3\.10"):
        index_package(dataclasses, strict=True)
    assert index_package(dataclasses, strict=False).counts.unreadable == 0


def test_the_report_sums_up(tmp_path: Path) -> None:
    indexes = [
        PackageIndex("b", Counts(1, 2, 3, 4, 5, 6), "b" * 64),
        PackageIndex("a", Counts(10, 20, 30, 40, 50, 60), "a" * 64),
    ]
    total = write_report(indexes, tmp_path)
    assert total == Counts(11, 22, 33, 44, 55, 66)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["total"]["unreadable"] == 66
    assert [each["package"] for each in report["packages"]] == ["a", "b"]
    assert "22 lines" in (tmp_path / "report.txt").read_text()
