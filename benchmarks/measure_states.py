"""SetState one by one beside echo, and BatchSetStates beside the driver alone."""

from __future__ import annotations

from benchmarks import raw
from benchmarks.clients import BatchCallers, call_batches
from benchmarks.content import count_attempts, make_running_runs
from benchmarks.databases import Databases
from benchmarks.processes import Server, echo_server, interlock_server, together
from benchmarks.results import Result, Target
from benchmarks.scale import Scale
from benchmarks.spread import Spread
from benchmarks.unary import MOST_DRIVERS, drive, driver_name
from benchmarks.usage import Usage

COMMIT_DELAY = 0.003
"""Seconds that a slower disk takes to make a commit durable."""

_CALLERS = 4


class WorkMissing(Exception):
    """What clients were answered, and what the server has, do not fit."""


def measure_set_state(
    databases: Databases, scale: Scale, in_flight: int, target: Target, commit_delay: float = 0.0
) -> Result:
    """Measure SetState with so many calls in flight, in turns with echo."""
    url = databases.new()
    in_server = commit_delay if databases.commit_delay_in_server else 0.0
    rates, yardsticks, failed = [], [], 0
    with echo_server() as echo:
        with interlock_server(url, commit_delay=in_server) as server:
            run_ids = make_running_runs(server, MOST_DRIVERS)
        if commit_delay:
            databases.delay_commits(url, commit_delay)
        with interlock_server(url, commit_delay=in_server) as server:
            usage, echo_usage = Usage(server), Usage(echo)
            for _ in range(scale.rounds):
                drive(echo.target, run_ids, in_flight, echo_usage.window(), scale)
                yardsticks.append(echo_usage.rate("calls"))
                failed += _checked_drive(server, run_ids, in_flight, usage, scale)
                rates.append(usage.rate("commands"))
    details = usage.per(usage.total("commands"), "call")
    echo_cpu = echo_usage.cpu_us_per(echo_usage.total("calls"))
    details |= {
        "echo CPU us per call": echo_cpu,
        # Steadier than the ratio of rates where others use the machine as well.
        "echo's CPU by the server's": echo_cpu / usage.cpu_us_per(usage.total("commands")),
    }
    if not commit_delay:
        details["statements per 1,000 calls"] = _count_statements(url, run_ids, in_flight, scale)
    name = f"SetState, {in_flight} in flight"
    if commit_delay:
        name += f", commits {commit_delay * 1000:g} ms slower"
    return Result(
        name,
        databases.dialect,
        "calls/s",
        Spread.of(rates),
        "echo",
        Spread.of(yardsticks),
        Spread.of_ratios(rates, yardsticks),
        target,
        failed,
        details | {"errors": failed, "driven by": driver_name()},
    )


def _checked_drive(
    server: Server, run_ids: list[str], in_flight: int, usage: Usage, scale: Scale
) -> int:
    """Drive, and answer how many calls failed, by the client's word or by the server's."""
    attempts, failures = count_attempts(server, run_ids), server.failed_calls()
    driven = drive(server.target, run_ids, in_flight, usage.window(), scale)
    accepted = count_attempts(server, run_ids) - attempts
    failed = max(driven.failed, server.failed_calls() - failures)
    # Calls that were under way when the time was over may have been accepted unheard.
    unheard = accepted + failed - driven.answered - driven.failed
    if not 0 <= unheard <= in_flight:
        raise WorkMissing(f"Of {driven.answered} answered calls {accepted} were accepted.")
    return failed


def _count_statements(url: str, run_ids: list[str], in_flight: int, scale: Scale) -> float:
    with interlock_server(url, count_statements=True) as server:
        usage = Usage(server)
        drive(server.target, run_ids, in_flight, usage.window(), scale)
        return usage.total("statements") / usage.total("commands") * 1000


def measure_batch_set_states(databases: Databases, scale: Scale, size: int) -> Result:
    """Measure BatchSetStates with `size` distinct runs a batch, in turns with the driver alone."""
    url = databases.new()
    with interlock_server(url) as server:
        run_ids = make_running_runs(server, _CALLERS * size)
    copied = databases.copy(url)
    own = [run_ids[start : start + size] for start in range(0, len(run_ids), size)]
    each = max(1, scale.transitions // len(run_ids))
    rates, yardsticks, done = [], [], 0
    driver = databases.raw(copied)
    try:
        with interlock_server(url) as server:
            usage = Usage(server)
            for round_ in range(-1, scale.rounds):
                yardstick = _raw_rate(driver, own, each, round_)
                with usage.window():
                    (accepted,), seconds = together(
                        call_batches, [BatchCallers(server.target, own, each)]
                    )
                if accepted != each * len(run_ids):
                    raise WorkMissing(f"Of {each * len(run_ids)} proposals {accepted} passed.")
                done += accepted
                if round_ >= 0:  # The first one warms up.
                    yardsticks.append(yardstick)
                    rates.append(accepted / seconds)
            if count_attempts(server, run_ids) != done + len(run_ids):
                raise WorkMissing("Transitions that were acknowledged are not there.")
    finally:
        driver.close()
    return Result(
        f"BatchSetStates, {size:,} a batch",
        databases.dialect,
        "transitions/s",
        Spread.of(rates),
        "raw",
        Spread.of(yardsticks),
        Spread.of_ratios(rates, yardsticks),
        Target(1 / 2, "ratio"),
        details=usage.per(done, "transition") | {"callers": _CALLERS},
    )


def _raw_rate(driver: raw.Raw, own: list[list[str]], each: int, round_: int) -> float:
    seconds = 0.0
    for number in range(each):
        for run_ids in own:
            seconds += driver.set_states(raw.state_batch(run_ids, (round_ + 1) * each + number))
    return each * sum(map(len, own)) / seconds
