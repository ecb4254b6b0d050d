"""A fixed piece of work in plain Python, of the kinds that a request consists of.

`regression.py` counts its instructions as the measure for those of a request. A change here makes
`reference.json` void.
"""

import json
import re
import sys

HEAD = (
    "GET /greetings/Ada HTTP/1.1\r\n"
    "Host: localhost:8000\r\n"
    "User-Agent: calibration\r\n"
    "Accept: application/json\r\n"
    "\r\n"
)
FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*)\r\n")
TARGET = re.compile(r"/greetings/([^/]+)")


class Exchange:
    """A request and its response."""

    def __init__(self, head: str) -> None:
        line, _, fields = head.partition("\r\n")
        self.method, self.target, self.version = line.split(" ")
        self.headers = {name.lower(): value for name, value in FIELD.findall(fields)}
        self.status = 200

    def respond(self) -> bytes:
        match = TARGET.fullmatch(self.target)
        if match is None:
            self.status = 404
            return b""
        body = json.dumps({"message": f"Hello, {match[1]}!"})
        lines = [f"HTTP/1.1 {self.status} OK", f"Content-Length: {len(body)}"]
        lines += [f"{name.title()}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", body]).encode()


def work(count: int) -> int:
    """Do it `count` times and return the bytes of all responses."""
    return sum(len(Exchange(HEAD).respond()) for _ in range(count))


if __name__ == "__main__":
    print(work(int(sys.argv[1])))
