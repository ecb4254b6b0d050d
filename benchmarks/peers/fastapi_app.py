"""FastAPI with Prometheus metrics; uvicorn writes its access log.

The metrics are those of prometheus-fastapi-instrumentator. With several workers they are in files,
as prometheus_client has it.
"""

import os
import tempfile

if int(os.environ.get("WORKERS", "1")) > 1:
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(dir=os.environ["HOME"]))

import payload
from fastapi import FastAPI, WebSocket
from prometheus_fastapi_instrumentator import Instrumentator
from pydantic import BaseModel


class Message(BaseModel):
    message: str


class Article(BaseModel):
    id: int
    name: str
    price: float
    tags: list[str]


class Articles(BaseModel):
    articles: list[Article]


app = FastAPI()
Instrumentator().instrument(app).expose(app)
sizes: dict[int, Articles] = {}


@app.get("/")
async def hello() -> Message:
    return Message(message="Hello, world!")


async def hello_name(name: str) -> Message:
    return Message(message=f"Hello, {name}!")


for number in range(int(os.environ.get("ROUTES", "0"))):
    app.get(f"/r{number}/{{name}}")(hello_name)


@app.get("/json/{size}")
async def articles(size: int) -> Articles:
    if size not in sizes:
        sizes[size] = Articles.model_validate({"articles": payload.articles(size)})
    return sizes[size]


@app.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for message in socket.iter_text():
        await socket.send_text(message)
