"""Waiting while a flow run is paused: by asking again and again."""

from __future__ import annotations

import time

from interlock import values
from interlock._async import transport
from interlock._async.services import Services
from interlock.errors import DeadlineExceeded, Unavailable
from interlock.v1.flow_run_pb2 import FlowRun
from interlock.v1.state_pb2 import STATE_TYPE_PAUSED, State

_FIRST_DELAY, _LONGEST_DELAY = 0.05, 2.0
"""Seconds between two looks: the delay grows, so that who answers at once is heard at once."""

_PATIENCE = 60.0
"""For how many seconds beyond the end of the pause a server that is away is waited for."""


async def until_resumed(services: Services, run_id: str, paused: State) -> FlowRun:
    """Wait as long as a flow run is paused, and answer it as it is then.

    A server that is away meanwhile is waited for, as long as the pause may last. Raises what
    `get_flow_run` raises.
    """
    delay = _FIRST_DELAY
    give_up = time.monotonic() + _PATIENCE
    if paused.details.HasField("pause_timeout"):
        give_up += values.seconds_between(paused.timestamp, paused.details.pause_timeout)
    while True:
        try:
            run = await services.get_flow_run(run_id)
        except (Unavailable, DeadlineExceeded):
            if time.monotonic() > give_up:
                raise
        else:
            if run.state.type != STATE_TYPE_PAUSED:
                return run
        await transport.sleep(delay)
        delay = min(delay * 1.5, _LONGEST_DELAY)
