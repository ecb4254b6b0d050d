"""What the service consists of: a form that keeps a name in a signed cookie, and a JSON API."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import runtime
from pydantic import SecretStr
from runtime import Application, Body, EventStream, Handler, Problem, Resource, Route

FOLDER = Path(__file__).parent


class Settings(runtime.Settings):
    cookie_secret: SecretStr = SecretStr("a secret of this test, 32 bytes long")


class Report(Body):
    """What a script of a page has found."""

    found: dict[str, str]


@asynccontextmanager
async def open_reports(_: runtime.Settings) -> AsyncIterator[asyncio.Queue[dict[str, str]]]:
    yield asyncio.Queue()


REPORTS = Resource("reports", open_reports)


class Name(Handler):
    def get(self) -> None:
        name = self.get_signed_cookie("name") or b""
        self.render("name.html", name=name.decode())

    def post(self) -> None:
        name = self.get_body_argument("name")
        self.set_signed_cookie("name", name, httponly=True, samesite="Lax")
        self.redirect("/name", status=303)


class Frontend(Handler):
    """A page whose script uses the API of another origin."""

    def get(self, port: str) -> None:
        api = f"http://127.0.0.1:{port}"
        self.set_header("Content-Security-Policy", f"default-src 'self'; connect-src 'self' {api}")
        self.render("frontend.html", api=api)


class Live(Handler):
    """A page whose script reads events."""

    def get(self) -> None:
        self.render("events.html")


class Events(EventStream):
    """Ends in each way that there is."""

    retry = 0.05

    async def stream(self) -> None:
        if self.last_event_id is None:
            await self.send("two\rlines", id="\N{EURO SIGN}")
            raise ZeroDivisionError
        if self.last_event_id == "\N{EURO SIGN}":
            await self.send("end", event="kind", id="2")
            return
        raise Problem(404, "That was all.")


class Reports(Handler):
    async def post(self) -> None:
        await self.resources[REPORTS].put(Report.from_request(self.request).found)
        self.reply(status=204)


def make_app(settings: Settings) -> Application:
    return Application(
        settings,
        [
            Route("/name", Name),
            Route("/frontend/{port}", Frontend),
            Route("/live", Live),
            Route("/events", Events),
            Route("/reports", Reports),
        ],
        resources=[REPORTS],
        template_path=FOLDER / "templates",
        static_path=FOLDER / "static",
        cookie_secret=settings.cookie_secret.get_secret_value(),
        xsrf_cookies=True,
    )


class Item(Body):
    name: str


class Items(Handler):
    def get(self) -> None:
        self.reply({"title": "all"})

    def post(self) -> None:
        self.reply({"title": Item.from_request(self.request).name}, status=201)


class Broken(Handler):
    def get(self) -> None:
        raise RuntimeError("broken")


def make_api(settings: runtime.Settings) -> Application:
    return Application(settings, [Route("/items", Items), Route("/broken", Broken)])
