"""The synchronous client is what the asynchronous one generates."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

from interlock import AsyncClient, Client

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "clients" / "python" / "interlock" / "_sync"


def test_the_synchronous_client_is_up_to_date(tmp_path: Path) -> None:
    tool = ROOT / "tools" / "generate_sync.py"
    subprocess.run([sys.executable, str(tool), str(tmp_path)], check=True, timeout=60)
    generated = {path.name: path.read_text("utf-8") for path in tmp_path.glob("*.py")}
    assert {"client.py", "runs.py", "tail.py"} <= set(generated)
    by_hand = {"__init__.py", "transport.py"}
    assert set(generated) | by_hand == {path.name for path in COMMITTED.glob("*.py")}
    for name, text in generated.items():
        assert text == (COMMITTED / name).read_text("utf-8"), f"run tools/generate_sync.py: {name}"


def test_both_clients_have_the_same_methods() -> None:
    def signatures(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert "create_flow" in signatures(Client)
    assert signatures(AsyncClient) == signatures(Client)


def test_the_package_imports_nothing_until_it_is_used() -> None:
    script = "import sys, interlock; print([m for m in sys.modules if m.startswith('grpc')])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    import interlock

    for name in interlock.__all__:
        assert getattr(interlock, name) is not None
