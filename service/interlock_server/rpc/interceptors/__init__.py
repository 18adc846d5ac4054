"""What every call passes on its way in and out: a named, ordered list.

An interceptor wraps the handler of one method, once, as the method is registered: a call pays for
what it passes, and nothing is looked up for it. The outermost comes first.

1. `observe`: what a call was and how long it took goes to the log. Outermost, so that it sees
   everything, the status that the caller hears included.
2. `translate_errors`: every error becomes a status here, and nowhere else.
3. `refuse_undecodable`: bytes that are no message of the method's request end here.
4. `admit`: no call reaches a service while the server can not serve. Innermost, so that a malformed
   request is told so even then.
"""

from __future__ import annotations

from interlock_server.rpc.interceptors.admit import Gate, admit
from interlock_server.rpc.interceptors.errors import translate_errors
from interlock_server.rpc.interceptors.handlers import Handler, Interceptor, Method
from interlock_server.rpc.interceptors.observe import observe
from interlock_server.rpc.interceptors.undecodable import Undecodable, refuse_undecodable


def interceptors(gate: Gate) -> list[Interceptor]:
    """Answer the list, the outermost first."""
    return [observe, translate_errors, refuse_undecodable, admit(gate)]


def wrap(handler: Handler, method: Method, chain: list[Interceptor]) -> Handler:
    """Wrap a handler into a chain."""
    for interceptor in reversed(chain):
        handler = interceptor(handler, method)
    return handler


__all__ = ["Gate", "Handler", "Interceptor", "Method", "Undecodable", "interceptors", "wrap"]
