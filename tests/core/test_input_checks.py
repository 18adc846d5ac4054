"""Checks off the event loop: one after the other, within bounds, known schemas at once."""

import asyncio
import json
from collections.abc import Iterator

import pytest
from interlock_server.core import json_schemas
from interlock_server.core.errors import InvalidArgumentError
from interlock_server.core.input_checks import InputChecks
from interlock_server.storage.errors import OverloadedError

FORKS = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
ENDLESS = json.dumps({"$defs": FORKS | {"d40": False}, "$ref": "#/$defs/d0"})


@pytest.fixture
def checks() -> Iterator[InputChecks]:
    made = InputChecks(limit=2, seconds=0.2)
    yield made
    made.stop()
    made.stop()


async def test_the_first_bad_schema_is_told_by_its_field(checks: InputChecks) -> None:
    await checks.check_schemas([("a", "{}"), ("b", "true")])
    with pytest.raises(InvalidArgumentError) as caught:
        await checks.check_schemas([("a", "{}"), ("b", '{"type": 1}'), ("c", "3")])
    assert (caught.value.field, caught.value.reason) == ("b.type", "INVALID_FIELD")


async def test_input_is_told_what_is_wrong_with_it(checks: InputChecks) -> None:
    assert await checks.check_input('{"type": "integer"}', "input", "3") is None
    error = await checks.check_input('{"items": {"type": "integer"}}', "input", '[1, "a"]')
    assert error is not None
    assert (error.field, error.reason) == ("input[1]", "INPUT_INVALID")


async def test_what_takes_too_long_is_refused_and_the_loop_turns_meanwhile(
    checks: InputChecks,
) -> None:
    slow = asyncio.create_task(checks.check_schemas([("schema", ENDLESS)]))
    turns = 0
    while not slow.done():
        await asyncio.sleep(0.01)
        turns += 1
    with pytest.raises(InvalidArgumentError, match="takes too long"):
        await slow
    assert turns >= 2


async def test_a_known_schema_does_not_wait_behind_others(
    checks: InputChecks, monkeypatch: pytest.MonkeyPatch
) -> None:
    await checks.check_schemas([("schema", '{"type": "string"}')])
    monkeypatch.setattr(json_schemas, "flaw_in_schema", lambda text: 1 / 0)
    await checks.check_schemas([("schema", '{"type": "string"}')])


async def test_more_checks_than_may_wait_are_turned_away(checks: InputChecks) -> None:
    waiting = [asyncio.create_task(checks.check_schemas([("schema", ENDLESS)])) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await checks.check_input("{}", "input", "1")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await checks.check_input("{}", "input", "1") is None
