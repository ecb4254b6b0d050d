"""Runs `pytest tests/deploy` in many projects, quickly. Run as a script.

Reads the folder of a project from each line of standard input and answers with a line of JSON: the
exit code and the output of pytest. Each run is a fork of this process, which has already imported
all that the projects share.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import orjson  # noqa: F401
import prometheus_client  # noqa: F401
import pydantic_settings  # noqa: F401
import pytest
import tornado.httpclient
import tornado.httpserver
import tornado.websocket  # noqa: F401
import yaml  # noqa: F401


def run(project: Path) -> tuple[int, str]:
    """Run the tests of the deployment until the first failure."""
    with tempfile.TemporaryFile("w+") as output:
        pid = os.fork()
        if pid == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            os.chdir(project)
            sys.path.insert(0, str(project / "src"))
            os._exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "tests/deploy"]))
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read()


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(Path(line.strip()))), flush=True)
