"""What has happened to orders: the resource of the samples with events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..runtime import Resource
from ..settings import Settings


class Journal:
    def __init__(self) -> None:
        self._states = ["placed", "sent"]
        self._changed = asyncio.Event()

    def add(self, state: str) -> None:
        self._states.append(state)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def changed(self) -> None:
        await self._changed.wait()

    async def after(self, last: str | None) -> AsyncIterator[tuple[int, str]]:
        number = int(last or 0)
        while True:
            while number < len(self._states):
                number += 1
                yield number, self._states[number - 1]
            await self.changed()


@asynccontextmanager
async def open_journal(settings: Settings) -> AsyncIterator[Journal]:
    yield Journal()


JOURNAL = Resource("journal", open_journal)
