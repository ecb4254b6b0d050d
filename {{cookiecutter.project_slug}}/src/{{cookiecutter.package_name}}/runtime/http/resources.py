"""Resources: what lives as long as the process, such as pools and clients."""

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")

MAX_NAME_LENGTH = 100
"""Characters of the name of a resource that has a check."""


class Resource(Generic[T]):
    """A pool, client or the like that is opened before the service is ready.

    It is also the typed key under which handlers find it. Arguments:

    - `name`: for error messages, such as "cannot open orders: ...".
    - `lifespan`: a function that gets the settings and returns an async context manager. It is
      entered in each worker before the worker is ready, and left after it has drained. If it
      raises, the worker does not start. What one worker keeps in memory is unknown to the others.
    - `check`: an async function that gets the open value, and raises if it does not work. Each
      worker calls it when it has started, then every `interval` seconds, and cancels it after
      `timeout` seconds. While it fails in every worker, ``/readyz`` responds 503 and tells the
      type of the exception; its message, which may have credentials, is in the log only. The
      service goes on serving. A check must not block the event loop.

    Raises `ValueError` if a check cannot have this name, interval or time-out.

    ::

        @asynccontextmanager
        async def open_orders(settings: Settings) -> AsyncIterator[OrderStore]:
            store = await OrderStore.connect(settings.database)
            try:
                yield store
            finally:
                await store.close()

        async def ping(store: OrderStore) -> None:
            await store.execute("SELECT 1")

        ORDERS = Resource("orders", open_orders, check=ping)

        Application(settings, routes, resources=[ORDERS])     # in app.py
        orders = self.resources[ORDERS]                       # in a handler: an OrderStore
    """

    def __init__(
        self,
        name: str,
        lifespan: Callable[[Any], AbstractAsyncContextManager[T]],
        *,
        check: Callable[[T], Awaitable[None]] | None = None,
        interval: float = 10.0,
        timeout: float = 5.0,
    ) -> None:
        if check and len(name) > MAX_NAME_LENGTH:
            raise ValueError(f"resource {name!r}: the name is longer than {MAX_NAME_LENGTH}")
        for argument, seconds in {"interval": interval, "timeout": timeout}.items():
            if not 0 < seconds < math.inf:
                raise ValueError(f"resource {name!r}: {argument} must be positive: {seconds}")
        self.name = name
        self.lifespan = lifespan
        self.check = check
        self.interval = interval
        self.timeout = timeout


def declare(resources: Iterable[Resource[Any]]) -> tuple[Resource[Any], ...]:
    """Return resources as a tuple. Raises `ValueError` if the names of two checks are the same."""
    declared = tuple(resources)
    names = Counter(resource.name for resource in declared if resource.check)
    for name, count in names.items():
        if count > 1:
            raise ValueError(f"{count} resources with a check have the name {name!r}")
    return declared


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
