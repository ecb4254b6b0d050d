"""The application whose requests are traced."""

import asyncio
import logging
from contextlib import suppress

from opentelemetry import trace
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.routing import Route
from runtime.http.websocket import WebSocket
from runtime.settings import Settings
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.web import RequestHandler

from ..support.sample_app import OneItem

logger = logging.getLogger("orders")


class Scene:
    """How a test and the handlers of the application meet: ``app.settings["scene"]``."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.waiting: list[Handler] = []
        self.background: asyncio.Task[None] | None = None
        self.call: HTTPRequest | None = None
        """What ``/call`` requests."""


class SceneHandler(Handler):
    @property
    def scene(self) -> Scene:
        scene: Scene = self.settings["scene"]
        return scene


class Fail(Handler):
    def get(self) -> None:
        raise RuntimeError("hunter2")


class Plain(RequestHandler):
    def get(self) -> None:
        self.write("plain")


class PlainFail(RequestHandler):
    def get(self) -> None:
        raise RuntimeError("hunter2")


class OwnSpan(Handler):
    """Responds while a span of its own is current."""

    def get(self) -> None:
        with trace.get_tracer("orders").start_as_current_span("own"):
            self.reply()
            logger.info("response sent")


class Log(SceneHandler):
    """Logs from wherever a handler can."""

    async def get(self) -> None:
        logger.info("in the handler")
        await asyncio.to_thread(logger.info, "in a thread")
        self.scene.background = asyncio.create_task(self.log_later())
        self.reply()

    async def log_later(self) -> None:
        await self.scene.released.wait()
        logger.info("after the response")


class LogOwnTrace(Handler):
    def get(self) -> None:
        logger.info("imported", extra={"trace_id": "7"})
        self.reply()


class Wait(SceneHandler):
    """Waits until another request finishes it, or its client disconnects."""

    async def get(self) -> None:
        self.scene.waiting.append(self)
        await self.scene.released.wait()
        if not self._finished:
            await self.flush()

    def on_connection_close(self) -> None:
        self.scene.released.set()


class Finish(SceneHandler):
    """Finishes the request that waits."""

    def get(self) -> None:
        self.scene.waiting.pop().reply({"finished": True})
        self.scene.released.set()
        self.reply()


class Call(SceneHandler):
    """Sends a request to a service."""

    async def get(self) -> None:
        assert self.scene.call
        with suppress(Exception):
            await AsyncHTTPClient().fetch(self.scene.call)
        self.reply()


class Moved(Handler):
    def get(self) -> None:
        self.redirect("/items/cup")


def make_app(settings: Settings) -> Application:
    routes = [
        Route("/items/{name}", OneItem),
        Route("/fail", Fail),
        Route("/plain", Plain),
        Route("/plain-fail", PlainFail),
        Route("/own-span", OwnSpan),
        Route("/log", Log),
        Route("/log-own-trace", LogOwnTrace),
        Route("/wait", Wait),
        Route("/finish", Finish),
        Route("/call", Call),
        Route("/moved", Moved),
        Route("/socket", WebSocket),
    ]
    return Application(settings, routes, scene=Scene())


def scene(app: Application) -> Scene:
    """Return the scene of an application."""
    scene: Scene = app.settings["scene"]
    return scene
