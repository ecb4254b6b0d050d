"""The command of the service, with an extension that records what is imported when."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from types import ModuleType

from .runtime import Extension, Service, ServiceInfo, Settings
from .runtime.status import ProcessRow
from .runtime.workers import Prefork

RUNTIME = "myservice.runtime"


def modules() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.startswith("myservice")}


class Recorder(Extension):
    """Appends one JSON object for each of its calls to the file `calls`."""

    def before_fork(self, rows: Sequence[ProcessRow]) -> None:
        self._before = modules()
        record("before_fork", rows=len(rows))

    def after_fork(self, row: ProcessRow) -> None:
        record("after_fork", slot=row.slot)

    def lifespan(
        self, service: ServiceInfo, settings: Settings
    ) -> AbstractAsyncContextManager[object]:
        now = modules()
        renewed = [name for name, module in self._before.items() if now.get(name) is not module]
        record("lifespan", renewed=sorted(renewed))
        return nullcontext()


def record(call: str, **facts: object) -> None:
    imported = sorted(name for name in modules() if not name.startswith(RUNTIME))
    facts |= {"call": call, "pid": os.getpid(), "imported": imported}
    with open("calls", "a") as file:
        file.write(json.dumps(facts) + "\n")


service = Service("myservice", "1.0", processes=Prefork(), extensions=[Recorder()])

if __name__ == "__main__":
    sys.exit(service.main())
