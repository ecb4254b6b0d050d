"""The runtime: runs a Tornado service. This is its public interface.

Import from here, from `runtime.settings` (types of settings), from `runtime.testing`, and the
optional parts from their rooms; everything else is internal. README.md tells more.
"""

from .starting import is_about_to_serve, prepare_process

if is_about_to_serve(__name__.rpartition(".")[0]):
    prepare_process()  # first of all: the imports take a while

from .errors import SettingsError, StartupError
from .extensions import Extension
from .http.application import Application
from .http.body import Body
from .http.event_stream import EventStream
from .http.handler import Handler
from .http.problem import Problem
from .http.request import UNMATCHED_ROUTE, Request
from .http.resources import Resource, Resources
from .http.routing import Route
from .http.static import StaticFiles
from .http.websocket import WebSocket
from .logs.context import request_id
from .service import Service
from .settings import Settings
from .version import ServiceInfo

__all__ = [
    "UNMATCHED_ROUTE",
    "Application",
    "Body",
    "EventStream",
    "Extension",
    "Handler",
    "Problem",
    "Request",
    "Resource",
    "Resources",
    "Route",
    "Service",
    "ServiceInfo",
    "Settings",
    "SettingsError",
    "StartupError",
    "StaticFiles",
    "WebSocket",
    "request_id",
]
