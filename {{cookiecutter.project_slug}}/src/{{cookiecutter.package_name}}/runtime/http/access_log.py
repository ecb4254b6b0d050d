"""The access log: one record for each finished request."""

import logging
from collections.abc import Mapping
from typing import cast

from tornado.web import RequestHandler

from ..logs import direct
from .request import Request

access = logging.getLogger("access")


def log_access(
    handler: RequestHandler,
    seconds: float,
    level: int = logging.INFO,
    extra: Mapping[str, object] | None = None,
) -> None:
    """Log the access line of a request that took some `seconds`, with `extra` fields.

    A response of 500 or above is logged at level error, unless `level` is below info. The names
    are OpenTelemetry's. The query is left out, because it may contain secrets.
    """
    status = handler.get_status()
    if status >= 500 and level == logging.INFO:
        level = logging.ERROR
    if not access.isEnabledFor(level):
        return
    request = cast(Request, handler.request)
    headers = request.headers
    fields = {
        "request_id": request.id,
        "http.request.method": request.method,
        "url.path": request.path,
        "http.route": request.route,
        "http.response.status_code": status,
        "http.response.body.size": request.response_size,
        "client.address": request.remote_ip,
        # `get` raises and catches an exception if there is none.
        "user_agent.original": headers["User-Agent"] if "User-Agent" in headers else None,  # noqa: SIM401
        "duration_ms": round(1e6 * seconds) / 1000,
    }
    if status >= 400 and request.reason:
        fields["reason"] = request.reason
    if extra:
        fields |= extra
    direct.log(access, level, "%s %s %d", (request.method, request.path, status), fields)
