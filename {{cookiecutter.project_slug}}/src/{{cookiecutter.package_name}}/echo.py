"""The sample WebSocket: it says what it hears. Delete it together with its route in `app.py`."""

from .runtime.http.websocket import WebSocket


class Echo(WebSocket):
    """Sends every message back."""

    async def on_message(self, message: str | bytes) -> None:
        # Awaiting the write slows a client down that sends faster than it reads.
        await self.write_message(message, binary=isinstance(message, bytes))
