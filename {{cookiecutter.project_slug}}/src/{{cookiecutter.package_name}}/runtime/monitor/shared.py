"""Memory that processes share: one process writes, others read, without a lock."""

import mmap

WORD_SIZE = 8
"""Bytes of a number."""
HEADER_SIZE = 2 * WORD_SIZE
"""Bytes before the text: its version and its length."""
READ_ATTEMPTS = 100


def allocate(size: int) -> memoryview:
    """Return memory that processes forked from now on share. `size` is in bytes."""
    return memoryview(mmap.mmap(-1, size))


class SharedText:
    """A text, which is replaced as a whole.

    A reader never sees a half of it, also if the writer is killed while it writes. `memory` begins
    at a multiple of `WORD_SIZE`, and is `HEADER_SIZE` bytes longer than the longest text.
    """

    def __init__(self, memory: memoryview) -> None:
        # The version is odd while a process writes.
        self._header = memory[:HEADER_SIZE].cast("q")
        self._text = memory[HEADER_SIZE:]

    @property
    def capacity(self) -> int:
        """Bytes of the longest text."""
        return len(self._text)

    def write(self, text: bytes) -> None:
        """Replace the text. Raises `ValueError` if it is too long."""
        if len(text) > self.capacity:
            raise ValueError(f"a text of {len(text)} bytes in {self.capacity}")
        version = self._header[0] | 1
        self._header[0] = version
        self._text[: len(text)] = text
        self._header[1] = len(text)
        self._header[0] = version + 1

    def read(self) -> bytes:
        """Return the text; nothing if it is being written, or its writer has been killed."""
        for _ in range(READ_ATTEMPTS):
            version, length = self._header
            text = bytes(self._text[:length])
            if version % 2 == 0 and self._header[0] == version:
                return text
        return b""
