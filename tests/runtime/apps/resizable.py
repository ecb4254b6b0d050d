"""The service `reloadable` whose supervisor takes orders: SIGUSR1 sets the number of workers.

The number is in the file `count`. The log has the outcome, or why it is refused.
"""

import logging
import signal
import sys
from pathlib import Path

from runtime.workers.operations import Operation, RefusedError
from runtime.workers.supervisor import Supervisor

from .reloadable import service, set_constants

logger = logging.getLogger(__name__)

handle_signal = Supervisor._handle_signal
advance_operation = Supervisor._advance_operation
operations: list[Operation] = []


def handle_order(supervisor: Supervisor, signum: signal.Signals) -> None:
    if signum != signal.SIGUSR1:
        handle_signal(supervisor, signum)
        return
    try:
        operations.append(supervisor.resize(int(Path("count").read_text())))
    except RefusedError as error:
        logger.info("refused: %s", error)


def log_outcomes(supervisor: Supervisor) -> None:
    advance_operation(supervisor)
    for operation in [*operations]:
        if outcome := operation.final_outcome:
            operations.remove(operation)
            logger.info("outcome: %s, %s %s", outcome.success, outcome.message, outcome.warnings)


if __name__ == "__main__":
    set_constants()
    Supervisor._handle_signal = handle_order  # type: ignore[method-assign]
    Supervisor._advance_operation = log_outcomes  # type: ignore[method-assign]
    sys.exit(service.main())
