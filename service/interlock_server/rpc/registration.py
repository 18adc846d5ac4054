"""Registering services by their descriptors: a method of the contract that has no handler, or that
declares no role, is found when the server starts."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from interlock.v1 import options_pb2

from interlock_server.rpc.interceptors import Interceptor, wrap
from interlock_server.rpc.interceptors.handlers import Method
from interlock_server.rpc.interceptors.undecodable import tolerant


def required_role(method: MethodDescriptor) -> int:
    """Answer the least role that may call a method. Raises LookupError where none is declared."""
    role: int = method.GetOptions().Extensions[options_pb2.required_role]
    if role == options_pb2.ROLE_UNSPECIFIED:
        raise LookupError(f"{method.full_name} declares no role")
    return role


def generic_handler(
    service_name: str, service: object, chain: list[Interceptor]
) -> grpc.GenericRpcHandler:
    """Make the handlers of a service: its methods, wrapped into the chain of interceptors."""
    descriptor = descriptor_pool.Default().FindServiceByName(service_name)
    handlers = {}
    for method in descriptor.methods:
        required_role(method)
        handlers[method.name] = _method_handler(
            Method(
                f"/{service_name}/{method.name}", method.client_streaming, method.server_streaming
            ),
            method,
            getattr(service, method.name),
            chain,
        )
    return grpc.method_handlers_generic_handler(service_name, handlers)


_MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _method_handler(
    method: Method, descriptor: MethodDescriptor, handler: Any, chain: list[Interceptor]
) -> Any:
    request = message_factory.GetMessageClass(descriptor.input_type)
    response = message_factory.GetMessageClass(descriptor.output_type)
    make = _MAKERS[method.streams_requests, method.streams_responses]
    return make(
        wrap(handler, method, chain),
        request_deserializer=tolerant(request),
        response_serializer=response.SerializeToString,
    )
