"""The service with the handlers of docs/change.md, except for its pages."""

from .echo import Echo
from .failing import Fail, Leave, Refuse
from .greetings.handlers import GreetByName, Greetings, Welcome
from .orders.events import OrderEvents
from .orders.handlers import ShowOrder
from .orders.journal import JOURNAL
from .orders.model import PlaceOrder
from .orders.store import ORDERS
from .orders.wait import AwaitChange
from .runtime import Application, Route
from .settings import Settings
from .uploads.attach import Attach
from .uploads.stream import Upload


def make_app(settings: Settings) -> Application:
    return Application(
        settings,
        routes=[
            Route("/", Welcome),
            Route("/greetings", Greetings),
            Route("/greetings/{name}", GreetByName),
            Route("/echo", Echo),
            Route("/orders", PlaceOrder),
            Route("/orders/events", OrderEvents),
            Route("/orders/change", AwaitChange),
            Route("/orders/{number}", ShowOrder),
            Route("/attach", Attach),
            Route("/upload", Upload),
            Route("/failures/{name}", Fail),
            Route("/refusals", Refuse),
            Route("/left", Leave),
        ],
        resources=[ORDERS, JOURNAL],
    )
