"""The yardstick of unary calls: a grpc.aio server on uvloop that does nothing.

It takes SetState's request and answers with a response like SetState's, decoded and encoded by the
same classes; there is nothing between. `python -m benchmarks.echo` prints its port, and ends when
its standard input does.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import uvloop
from interlock.v1 import flow_run_pb2 as pb

from benchmarks.requests import SET_STATE, example_response


async def _serve() -> None:
    answer = example_response()

    async def echo(request: pb.FlowRunServiceSetStateRequest, context: Any) -> Any:
        return answer

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
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(_serve())
