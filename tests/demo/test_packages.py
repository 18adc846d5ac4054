"""How a library is cut into packages."""

from pathlib import Path

from interlock_server.demo.packages import (
    MOST_FILES,
    find_packages,
    largest_first,
    standard_library,
)


def write(root: Path, *names: str, text: str = "") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_modules_come_by_their_letter_and_folders_whole(tmp_path: Path) -> None:
    write(tmp_path, "abc.py", "Ast.py", "json/__init__.py", "json/tool/x.py", "ctypes/a.py")
    found = {
        package.name: [str(file) for file in package.files] for package in find_packages(tmp_path)
    }
    assert found == {
        "modules-a": ["Ast.py", "abc.py"],
        "ctypes": ["ctypes/a.py"],
        "json": ["json/__init__.py", "json/tool/x.py"],
    }
    assert list(found) == ["modules-a", "ctypes", "json"]


def test_what_others_have_installed_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "site-packages/x.py", "dist-packages/y.py", "a/__pycache__/z.py", "a/notes.txt")
    assert find_packages(tmp_path) == []


def test_a_large_package_comes_in_parts(tmp_path: Path) -> None:
    write(tmp_path, *(f"test/t{number:04}.py" for number in range(MOST_FILES + 1)))
    first, second = find_packages(tmp_path)
    assert (first.name, len(first.files)) == ("test-1", MOST_FILES)
    assert (second.name, len(second.files)) == ("test-2", 1)


def test_the_largest_package_is_begun_first(tmp_path: Path) -> None:
    write(tmp_path, "a/small.py", text="1")
    write(tmp_path, "b/large.py", text="1" * 100)
    assert [package.name for package in largest_first(find_packages(tmp_path))] == ["b", "a"]


def test_each_file_of_the_standard_library_is_in_one_package() -> None:
    packages = find_packages(standard_library())
    files = [file for package in packages for file in package.files]
    assert len(files) == len(set(files)) > 100
    assert len({package.name for package in packages}) == len(packages)
