"""A service at a control socket, in the test's own process."""

import threading
from pathlib import Path

from runtime.control.steering import Steering

PATH = Path("control.sock")


class Host:
    """Handles what clients of `steering` ask for in a thread, as a service does in its loop."""

    def __init__(self, steering: Steering) -> None:
        self.steering = steering
        self.stops: list[str] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Host":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()
        self.steering.close()

    def _run(self) -> None:
        while not self._is_over.wait(0.005):
            self.steering.handle()
