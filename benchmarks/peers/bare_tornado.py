"""Tornado's hello world: asyncio's event loop, and no log."""

import asyncio
import os

import payload
import tornado.netutil
import tornado.process
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler


class Hello(RequestHandler):
    def get(self, name="world"):
        self.write({"message": f"Hello, {name}!"})


class Json(RequestHandler):
    def get(self, size):
        self.write({"articles": payload.articles(int(size))})


class Echo(WebSocketHandler):
    def on_message(self, message):
        self.write_message(message)


def make_app():
    more = range(int(os.environ.get("ROUTES", "0")))
    return Application(
        [
            ("/", Hello),
            *((f"/r{number}/([^/]+)", Hello) for number in more),
            (r"/json/(\d+)", Json),
            ("/echo", Echo),
        ]
    )


async def serve(sockets):
    HTTPServer(make_app()).add_sockets(sockets)
    await asyncio.Event().wait()


def main():
    sockets = tornado.netutil.bind_sockets(int(os.environ["PORT"]), "127.0.0.1")
    workers = int(os.environ.get("WORKERS", "1"))
    if workers > 1:
        tornado.process.fork_processes(workers)
    asyncio.run(serve(sockets))


if __name__ == "__main__":
    main()
