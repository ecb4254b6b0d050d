"""Litestar with its Prometheus plugin; uvicorn writes its access log."""

from litestar import Litestar, get
from litestar.plugins.prometheus import PrometheusConfig, PrometheusController


@get("/")
async def hello() -> dict[str, str]:
    return {"message": "Hello, world!"}


app = Litestar([hello, PrometheusController], middleware=[PrometheusConfig().middleware])
