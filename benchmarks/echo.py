"""The yardstick of unary calls: a grpc.aio server on uvloop that does nothing.

It takes SetState's request and answers with a response like SetState's, decoded and encoded by the
same classes; there is nothing between. `python -m benchmarks.echo` prints its port. To each line of
its standard input it says how many calls it has answered; it ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import grpc
import uvloop
from interlock.v1 import flow_run_pb2 as pb

from benchmarks.requests import SET_STATE, example_response


async def _serve() -> None:
    answer = example_response()
    calls = 0

    async def echo(request: pb.FlowRunServiceSetStateRequest, context: Any) -> Any:
        nonlocal calls
        calls += 1
        return answer

    def count() -> None:
        for _ in sys.stdin:
            print(json.dumps({"time": time.monotonic(), "calls": calls}), flush=True)

    handler = grpc.unary_unary_rpc_method_handler(
        echo,
        request_deserializer=pb.FlowRunServiceSetStateRequest.FromString,
        response_serializer=pb.FlowRunServiceSetStateResponse.SerializeToString,
    )
    _, service, method = SET_STATE.split("/")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {method: handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(count)
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(_serve())
