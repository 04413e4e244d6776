"""Who is asking: a bearer token (RFC 6750) on TCP, the owner of the daemon on its own Unix socket.

Deny by default: every route names what it needs with `needs(…)`, and an application with a route that names nothing
is not built (app.py). What a caller may do and see is decided in access.py.
"""

import os
from collections import Counter

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from .. import access
from ..access import Actor, Permission
from ..errors import Denied, Refused
from .calls import Call
from .parts import Parts


class Needs:
    """A route's permission, as a dependency that gives the endpoint its Call."""

    def __init__(self, permission: Permission, *, operators_only: bool = False) -> None:
        self.permission = permission
        self.operators_only = operators_only

    async def __call__(self, request: Request) -> Call:
        """Denied (`unauthenticated`, or for want of the permission) before anything of the request is acted on."""
        parts: Parts = request.app.state.parts
        actor = await _actor(request, parts)
        request.state.caller = actor.id
        actor.require(self.permission)
        if self.operators_only and actor.kind != "operator":
            raise Denied("this is for operators only")
        _require_once(request)
        return Call(request, parts, actor, is_local=_is_owner(request))


def _require_once(request: Request) -> None:
    """Refused (`parameter_twice`): of two values one would be passed over without a word."""
    given = Counter(name for name, _ in request.query_params.multi_items())
    for name, count in given.items():
        if count > 1:
            raise Refused(f"the parameter {name[:40]!r} is given more than once", code="parameter_twice")


def needs_of(route: BaseRoute) -> Needs | None:
    """What a route needs; None when it names nothing."""
    if not isinstance(route, APIRoute):
        return None
    return next((one.call for one in route.dependant.dependencies if isinstance(one.call, Needs)), None)


async def _actor(request: Request, parts: Parts) -> Actor:
    if _is_owner(request):
        return access.command_line_actor()
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Denied("this needs a token: Authorization: Bearer …", code="unauthenticated")
    return await parts.pool.run(access.authenticate, parts.db, secret.strip())


def _is_owner(request: Request) -> bool:
    """The listener saw the peer's uid on the Unix socket (servers/httpd.py), and it is this process's own."""
    peer = (request.scope.get("extensions") or {}).get("unix_peer")
    return peer is not None and peer["uid"] == os.geteuid()
