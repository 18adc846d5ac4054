"""Generate the Python stubs from `protos/`: messages, services, type stubs and package exports.

Run it with the floor toolchain (`make generate` does): `python tools/generate.py [OUTPUT]`, where
OUTPUT is the folder that holds the `interlock` package, `clients/python` unless given.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
WELL_KNOWN = Path(protoc.__file__).parent / "_proto"
PACKAGES = {
    "interlock.v1": "The contract of workers and tools, generated from `protos/`.",
    "interlock.admin.v1": "The contract of operators, generated from `protos/`.",
}


def main() -> int:
    """Generate everything; answer the exit code of the first step that fails."""
    output = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "clients" / "python"
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    services = [file for file in files if "\nservice " in (PROTOS / file).read_text("utf-8")]
    includes = ["protoc", f"-I{PROTOS}", f"-I{WELL_KNOWN}"]
    for arguments in (
        [f"--python_out={output}", f"--mypy_out=quiet:{output}", *files],
        [f"--grpc_python_out={output}", f"--mypy_grpc_out=quiet:{output}", *services],
    ):
        if code := protoc.main(includes + arguments):
            return int(code)
    sys.path.insert(0, str(output))
    for package, meaning in PACKAGES.items():
        # What it exported before may be gone, and the modules can not be imported then.
        output.joinpath(*package.split("."), "__init__.py").write_text(f'"""{meaning}"""\n')
    for package, meaning in PACKAGES.items():
        write_exports(output, package, meaning)
    return 0


def write_exports(output: Path, package: str, meaning: str) -> None:
    """Write the package's `__init__.py`, which exports every message, enum, stub and servicer."""
    folder = output.joinpath(*package.split("."))
    lines = [f'"""{meaning}"""\n']
    exported: list[str] = []
    for path in sorted(folder.glob("*_pb2*.py")):
        module = importlib.import_module(f"{package}.{path.stem}")
        names = sorted(public_names(module))
        exported += names
        if names:
            lines.append(f"from {package}.{path.stem} import (")
            lines += [f"    {name} as {name}," for name in names]
            lines.append(")")
    lines.append("\n__all__ = [")
    lines += [f'    "{name}",' for name in sorted(exported)]
    lines.append("]")
    (folder / "__init__.py").write_text("\n".join(lines) + "\n", "utf-8")


def public_names(module: object) -> list[str]:
    """Name what a user of the generated module needs."""
    if (descriptor := getattr(module, "DESCRIPTOR", None)) is None:
        return [n for n in vars(module) if n.endswith(("Stub", "Servicer")) or n.startswith("add_")]
    values = [v for enum in descriptor.enum_types_by_name.values() for v in enum.values_by_name]
    return [
        *descriptor.message_types_by_name,
        *descriptor.enum_types_by_name,
        *descriptor.extensions_by_name,
        *values,
    ]


if __name__ == "__main__":
    sys.exit(main())
