"""FastAPI's hello world, and the routes that the table of faults needs."""

import asyncio
import os
import time

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def hello() -> dict[str, str]:
    return {"message": "Hello, world!"}


@app.get("/pid")
async def pid() -> dict[str, int]:
    return {"pid": os.getpid()}


@app.get("/slow")
async def slow() -> dict[str, str]:
    await asyncio.sleep(1)
    return {"message": "Hello, slow world!"}


@app.get("/block")
async def block() -> dict[str, str]:
    """Block the event loop, as a bug may do."""
    time.sleep(600)
    return {}
