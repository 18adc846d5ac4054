"""Who may call whom: the layers of the house, read from the imports of the server's code.

`docs/architecture.md` tells why. Nothing calls upward; what a layer keeps to itself (protobuf,
SQL, a dialect's name) is found nowhere else.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "service" / "interlock_server"

MAY_IMPORT = {
    "cli": {
        *{"rpc", "background", "core", "storage", "rules", "replay"},
        *{"configuration", "settings"},
    },
    # Read by the command line, which hands down what the layers below need.
    "configuration": {"settings", "storage"},
    # Defaults stand where what they mean is.
    "settings": {"storage", "rules"},
    "rpc": {"background", "core", "storage", "rules"},
    "background": {"core", "storage", "rules"},
    "core": {"storage", "rules"},
    "storage": {"rules"},
    "rules": set(),
    # Clients of the service, as others are. A replay foretells by the rules what is decided.
    "replay": {"rules"},
    "demo": set(),
}
"""Which layers a layer may call, beside itself."""

SHARED = {"lengths", "logging"}
"""Modules that belong to no layer; they import none either."""

KEPT_TO = {
    "google": {"rpc", "cli", "replay", "demo"},
    "grpc": {"rpc", "cli"},
    "grpc_health": {"rpc", "cli"},
    "grpc_reflection": {"rpc"},
    "grpc_status": {"rpc", "cli"},
    "sqlalchemy": {"storage"},
    "alembic": {"storage"},
    "asyncpg": {"storage"},
    "aiosqlite": {"storage"},
    # The command line tells its version.
    "sqlite3": {"storage", "cli"},
    "click": {"cli", "demo"},
    "rich": {"cli", "demo"},
    "zstandard": {"core"},
    "jsonschema": {"core"},
    "jsonschema_specifications": {"core"},
    "referencing": {"core"},
    # The command line shows what the server has found, so it looks for it in the same way.
    "re2": {"core", "cli"},
}
"""Which layers may import a package."""

CLIENT_KEPT_TO = {
    "interlock": {"rpc", "cli", "replay", "demo"},
    # Ids are made alike on both sides.
    "interlock.ids": {"rpc", "cli", "replay", "demo", "core", "storage"},
}
"""Which layers may import what of the client, whose stubs are protobuf."""

NO_IO = {"asyncio", "datetime", "io", "os", "pathlib", "random", "socket", "threading", "time"}
"""What `rules/` does without, so that it can be read like a specification."""

DIALECT_MODULES = {
    "storage/options.py": "an option of one dialect only",
    "storage/migration_tools.py": "work outside of transactions, which differ",
    "storage/new_revision.py": "compares with a database in memory",
    "storage/dialects.py": "opens the one that a URL names",
    "storage/urls.py": "reads the URL",
    "storage/tables.py": "types that differ in the schema itself",
    "settings.py": "the URL of the default database, an option of one dialect only",
    "cli/version.py": "tells the version of what is installed",
    "demo/server.py": "the URL of the demo's database",
}
"""Where a dialect's name may stand beside its own folder, and what for."""

DIALECT_FOLDERS = (PACKAGE / "storage" / "sqlite", PACKAGE / "storage" / "postgresql")

DIALECTS = ("sqlite", "postgresql", "asyncpg", "aiosqlite")


@dataclass(frozen=True)
class Import:
    """One import: who, what, where."""

    file: Path
    line: int
    module: str

    @property
    def layer(self) -> str:
        return layer_of(self.file)

    def __str__(self) -> str:
        return f"{self.file.relative_to(REPOSITORY)}:{self.line} imports {self.module}"


def layer_of(file: Path) -> str:
    """The layer of a file: its folder, or its own name where it lies in none."""
    first = file.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def files() -> Iterator[Path]:
    for file in sorted(PACKAGE.rglob("*.py")):
        if file != PACKAGE / "__init__.py":
            yield file


def imports(file: Path) -> Iterator[Import]:
    """All that a file imports, also within functions; `from a import b` may mean a module a.b."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute here"
            for alias in node.names:
                yield Import(file, node.lineno, f"{node.module}.{alias.name}")


ALL = [found for file in files() for found in imports(file)]


def test_every_layer_is_known() -> None:
    assert {layer_of(file) for file in files()} == set(MAY_IMPORT) | SHARED
    assert len(ALL) > 300


def test_nothing_calls_upward() -> None:
    def allowed(found: Import) -> bool:
        package, _, rest = found.module.partition(".")
        if package != "interlock_server":
            return True
        target = rest.partition(".")[0]
        if found.layer in SHARED:
            return target in SHARED
        own = SHARED if found.layer in {"cli", "settings"} else set()
        return target in {found.layer, *MAY_IMPORT[found.layer], *own}

    assert [str(found) for found in ALL if not allowed(found)] == []


def test_packages_stay_in_their_layers() -> None:
    def allowed(found: Import) -> bool:
        layers = KEPT_TO.get(found.module.partition(".")[0])
        return layers is None or found.layer in layers

    assert [str(found) for found in ALL if not allowed(found)] == []


def test_the_clients_stubs_stop_at_the_edge() -> None:
    def allowed(found: Import) -> bool:
        if found.module.partition(".")[0] != "interlock":
            return True
        ids = found.module.startswith("interlock.ids.")
        return found.layer in CLIENT_KEPT_TO["interlock.ids" if ids else "interlock"]

    assert [str(found) for found in ALL if not allowed(found)] == []


def test_rules_do_no_io_and_read_no_clock() -> None:
    found = [f for f in ALL if f.layer == "rules" and f.module.partition(".")[0] in NO_IO]
    assert [str(one) for one in found] == []


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """The strings and names of a file's code, without its docstrings."""
    tree = ast.parse(file.read_text())
    # Strings that are statements: docstrings of modules, classes, functions and constants.
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in prose:
                yield node.lineno, text
            case ast.Name(id=name) | ast.Attribute(attr=name):
                yield node.lineno, name


def test_a_dialect_is_asked_for_only_where_dialects_differ() -> None:
    """Elsewhere no code may even have a dialect's name at hand, to compare it or to branch on it.

    The schema's own options, such as an index's `postgresql_where`, are keywords: not counted.
    """
    found = [
        f"{file.relative_to(REPOSITORY)}:{line}: {text!r}"
        for file in files()
        if file.relative_to(PACKAGE).as_posix() not in DIALECT_MODULES
        and file.parent not in DIALECT_FOLDERS
        for line, text in texts(file)
        if any(dialect in text.lower() for dialect in DIALECTS)
    ]
    assert found == []


def test_dialects_have_the_same_modules_where_they_do_the_same() -> None:
    """Whoever knows one knows the other; what only one of them needs is named here."""
    sqlite, postgresql = ({file.name for file in folder.glob("*.py")} for folder in DIALECT_FOLDERS)
    assert sqlite - postgresql == {"file.py"}
    assert postgresql - sqlite == {"connecting.py"}
