"""A sample WebSocket that echoes each message. Delete it together with its route in `app.py`."""

from .runtime import WebSocket


class Echo(WebSocket):
    """Sends every message back."""

    async def on_message(self, message: str | bytes) -> None:
        # Await the write for back-pressure.
        await self.write_message(message, binary=isinstance(message, bytes))
