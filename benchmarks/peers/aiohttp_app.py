"""aiohttp with its access log, its speedups and uvloop."""

import logging
import os
import sys

import payload
import uvloop
from aiohttp import web

MESSAGE = {"message": "Hello, world!"}


async def hello(request: web.Request) -> web.Response:
    return web.json_response(MESSAGE)


async def hello_name(request: web.Request) -> web.Response:
    return web.json_response({"message": f"Hello, {request.match_info['name']}!"})


async def articles(request: web.Request) -> web.Response:
    size = int(request.match_info["size"])
    return web.json_response({"articles": payload.articles(size)})


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def make_app() -> web.Application:
    app = web.Application()
    more = range(int(os.environ.get("ROUTES", "0")))
    app.add_routes(
        [
            web.get("/", hello),
            *(web.get(f"/r{number}/{{name}}", hello_name) for number in more),
            web.get("/json/{size}", articles),
            web.get("/echo", echo),
        ]
    )
    return app


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    web.run_app(
        make_app(), host="127.0.0.1", port=int(os.environ["PORT"]), loop=uvloop.new_event_loop()
    )
