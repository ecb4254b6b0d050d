"""Resources: what lives as long as the process, such as pools and clients."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class Resource(Generic[T]):
    """A pool, client or the like that is opened before the service is ready.

    It is also the typed key under which handlers find it. Arguments:

    - `name`: for error messages, such as "cannot open orders: ...".
    - `lifespan`: a function that gets the settings and returns an async context manager. It is
      entered in each worker before the worker is ready, and left after it has drained. If it
      raises, the worker does not start. What one worker keeps in memory is unknown to the others.

    ::

        @asynccontextmanager
        async def open_orders(settings: Settings) -> AsyncIterator[OrderStore]:
            store = await OrderStore.connect(settings.database)
            try:
                yield store
            finally:
                await store.close()

        ORDERS = Resource("orders", open_orders)

        Application(settings, routes, resources=[ORDERS])     # in app.py
        orders = self.resources[ORDERS]                       # in a handler: an OrderStore
    """

    def __init__(
        self, name: str, lifespan: Callable[[Any], AbstractAsyncContextManager[T]]
    ) -> None:
        self.name = name
        self.lifespan = lifespan


class Resources:
    """The open resources of a process, by their keys."""

    def __init__(self) -> None:
        self._values: dict[Resource[Any], object] = {}

    def __getitem__(self, resource: Resource[T]) -> T:
        """Return an open resource. Raises `LookupError` if it is not open."""
        try:
            return cast(T, self._values[resource])
        except KeyError:
            raise LookupError(
                f"resource {resource.name!r} is not open: give it to Application(resources=[...])"
            ) from None

    def __setitem__(self, resource: Resource[T], value: T) -> None:
        """Make a resource available. For the runtime, and for fakes in tests."""
        self._values[resource] = value
