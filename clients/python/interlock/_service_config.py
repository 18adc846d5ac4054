"""The service config for plain stubs: time-outs, and retries where they can do no harm."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def service_config(*, client_ids: bool = False) -> str:
    """Answer a gRPC service config, as JSON text for the channel option `grpc.service_config`.

    Every unary call gets a time-out, and what can be repeated as it is (reads, CreateFlow,
    heartbeats) is sent again by gRPC itself while the server is UNAVAILABLE. The clients of this
    package retry by themselves and do not use it.

    Args:
        client_ids: the caller gives every creation and every proposal an id of its own, so that
            these can be repeated too. Without ids a repeated one counts as a new one.
    """
    text = resources.files("interlock").joinpath("service_config.json").read_text("utf-8")
    if not client_ids:
        return text
    config: dict[str, Any] = json.loads(text)
    policies = [m["retryPolicy"] for m in config["methodConfig"] if "retryPolicy" in m]
    for methods in config["methodConfig"]:
        if any(name.get("method") in _REPLAYABLE_WITH_IDS for name in methods["name"]):
            methods["retryPolicy"] = policies[0]
    return json.dumps(config)


_REPLAYABLE_WITH_IDS = {
    "BatchCreateTaskRuns",
    "BatchSetStates",
    "CreateFlowRun",
    "CreateTaskRun",
    "SetState",
}
