"""The service of `faults.py` whose supervisor takes orders: SIGUSR1 sets the number of workers.

The number is in the file `count`. The log has the outcome.
"""

import logging
import signal
import sys
from pathlib import Path

from faults import service
from tornado_service.runtime.workers.operations import Operation
from tornado_service.runtime.workers.supervisor import Supervisor

logger = logging.getLogger(__name__)

handle_signal = Supervisor._handle_signal
advance_operation = Supervisor._advance_operation
operations: list[Operation] = []


def handle_order(supervisor: Supervisor, signum: signal.Signals) -> None:
    if signum == signal.SIGUSR1:
        operations.append(supervisor.resize(int(Path("count").read_text())))
    else:
        handle_signal(supervisor, signum)


def log_outcomes(supervisor: Supervisor) -> None:
    advance_operation(supervisor)
    for operation in [*operations]:
        if outcome := operation.final_outcome:
            operations.remove(operation)
            logger.info("outcome: %s", outcome.message)


if __name__ == "__main__":
    Supervisor._handle_signal = handle_order  # type: ignore[method-assign]
    Supervisor._advance_operation = log_outcomes  # type: ignore[method-assign]
    sys.exit(service.main())
