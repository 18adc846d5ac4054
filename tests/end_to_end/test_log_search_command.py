"""Finding lines in the logs of many runs from the terminal."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from interlock import Client
from interlock.ids import uuid7
from interlock.log_columns import Line

from tests.end_to_end.commands import TIMEOUT, environment, interlock, interlock_on_terminal
from tests.support.servers import ServerProcess

MICROS = 1_750_000_000_000_000


@dataclass(frozen=True)
class Fleet:
    """A flow with two runs, the older one of which has failed."""

    target: str
    flow: str
    old: str
    young: str

    def search(self, *words: str) -> tuple[int, str, str]:
        """Search the flow's logs: exit code, output, what else was said."""
        done = interlock("logs", "search", *words, "--server", self.target)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def fleet(interlock_on_sqlite_file: ServerProcess) -> Fleet:
    target, name = interlock_on_sqlite_file.target, f"etl-{uuid7()}"
    with Client(target) as client:
        flow = client.create_flow(name)
        runs = [client.create_flow_run(flow, name=each, tags=[each]) for each in ("old", "young")]
        for run in runs:
            client.write_logs(
                run,
                [
                    Line(
                        MICROS + n,
                        40 if n == 7 else 20,
                        "job.step" if n % 2 else "jobs",
                        f"line {n}",
                    )
                    for n in range(10)
                ],
            )
        client.set_flow_run_state(runs[0].id, "running")
        client.set_flow_run_state(runs[0].id, "failed")
    return Fleet(target, name, runs[0].id, runs[1].id)


def messages(output: str) -> list[str]:
    """What each line of the output ends with."""
    return [" ".join(line.split()[-2:]) for line in output.splitlines()]


def test_lines_are_found_run_by_run_the_youngest_first(fleet: Fleet) -> None:
    code, output, said = fleet.search("LINE 7", "-i", "--flow", fleet.flow)
    assert code == 0
    young, found, _, old, also_found = output.splitlines()
    assert (young, old) == (f"young ({fleet.young})", f"old ({fleet.old})")
    assert messages(f"{found}\n{also_found}") == ["line 7", "line 7"]
    assert said == "2 found in 20 lines that were looked at: that is all.\n"


def test_context_is_shown_in_groups(fleet: Fleet) -> None:
    _, output, _ = fleet.search("line [258]$", "--regex", "--run", fleet.old, "-C", "1", "-B", "0")
    assert messages(output)[1:] == [
        *("line 2", "line 3", "--", "line 5", "line 6", "--", "line 8", "line 9")
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--state", "failed"), 10),
        (("--tag", "young"), 10),
        (("--level", "error"), 2),
        (("--logger", "job"), 10),
        (("--since", "1d"), 0),
        (("--until", "1d"), 20),
    ],
)
def test_options_say_which_lines(fleet: Fleet, options: tuple[str, ...], expected: int) -> None:
    code, output, _ = fleet.search("line", "--json", "--flow", fleet.flow, *options)
    found = [json.loads(line) for line in output.splitlines()]
    assert len(found) == expected
    assert code == (0 if expected else 3)


def test_it_says_that_there_may_be_more(fleet: Fleet) -> None:
    _, output, said = fleet.search("line", "--run", fleet.old, "--limit", "3")
    assert messages(output)[1:] == ["line 0", "line 1", "line 2"]
    assert "There may be more: see --limit." in said


def test_nothing_found_is_told_by_the_exit_code(fleet: Fleet) -> None:
    code, output, said = fleet.search("nowhere", "--flow", fleet.flow)
    assert (code, output) == (3, "")
    assert said == "0 found in 20 lines that were looked at: that is all.\n"
    assert "nothing was found" in interlock("logs", "search", "--help").stdout


def test_what_makes_no_sense_is_refused(fleet: Fleet) -> None:
    assert fleet.search("x", "--run", fleet.old, "--tag", "a")[0] == 2
    assert fleet.search("")[0] == 2
    assert fleet.search("x", "--since", "1h", "--until", "2h")[0] == 2
    unknown = str(uuid7())
    code, _, said = fleet.search("x", "--run", unknown)
    assert (code, said) == (1, f"Error: There is no run {unknown}.\n")
    code, _, said = fleet.search("(a", "-E")
    assert code == 1
    assert "missing )" in said


def test_a_disk_that_is_full_is_said_in_one_line(fleet: Fleet) -> None:
    command = Path(sys.executable).with_name("interlock")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [command, "logs", "search", "line", "--server", fleet.target],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: Not all could be written: No space")
    assert "Traceback" not in done.stderr


def test_hits_are_highlighted_on_a_terminal_unless_colours_are_off(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("logs", "search", "NE 7", "-i", "--run", fleet.old, "--server", fleet.target)
    assert "li\x1b[1;31mne 7\x1b[0m" in interlock_on_terminal(*words)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = interlock_on_terminal(*words)
    assert "line 7" in plain
    assert "\x1b" not in plain
