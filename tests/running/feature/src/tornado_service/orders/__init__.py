"""Orders: they can be placed and looked up."""

from ..runtime import Route
from .handlers import PlaceOrder, ShowOrder

routes = [
    Route("/orders", PlaceOrder),
    Route("/orders/{number}", ShowOrder),
]
