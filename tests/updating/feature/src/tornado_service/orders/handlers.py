"""Orders over HTTP."""

from ..runtime import Handler
from ..settings import Settings


class Orders(Handler):
    """``GET /orders``"""

    config: Settings

    async def get(self) -> None:
        self.reply({"currency": self.config.currency, "orders": []})
