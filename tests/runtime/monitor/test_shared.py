"""Memory that processes share."""

import multiprocessing
import time

import pytest
from runtime.monitor.shared import HEADER_SIZE, SharedText, allocate
from runtime.testing import WAIT_TIMEOUT

fork = multiprocessing.get_context("fork")


@pytest.fixture
def text() -> SharedText:
    return SharedText(allocate(HEADER_SIZE + 16))


def test_text_is_empty_initially(text: SharedText) -> None:
    assert text.read() == b""
    assert text.capacity == 16


def test_text_is_replaced_as_a_whole(text: SharedText) -> None:
    text.write(b"sixteen letters!")
    assert text.read() == b"sixteen letters!"
    text.write(b"few")
    assert text.read() == b"few"
    text.write(b"")
    assert text.read() == b""


def test_text_that_is_too_long_changes_nothing(text: SharedText) -> None:
    text.write(b"before")
    with pytest.raises(ValueError, match="a text of 17 bytes in 16"):
        text.write(b"seventeen letters")
    assert text.read() == b"before"


def test_other_processes_read_it(text: SharedText) -> None:
    process = fork.Process(target=text.write, args=(b"from a child",))
    process.start()
    process.join()
    assert text.read() == b"from a child"


def test_half_of_a_text_is_never_read() -> None:
    memory = allocate(HEADER_SIZE + 16)
    text = SharedText(memory)
    text.write(b"before")
    header = memory[:HEADER_SIZE].cast("q")
    header[0] += 1  # as a writer does that is killed before it has finished
    memory[HEADER_SIZE : HEADER_SIZE + 3] = b"AFT"
    assert text.read() == b""
    text.write(b"next")
    assert text.read() == b"next"


def test_readers_see_only_whole_texts_while_a_process_writes() -> None:
    text = SharedText(allocate(HEADER_SIZE + 4096))
    text.write(b"a" * 4096)

    def write() -> None:
        while True:
            for letter in b"abc":
                text.write(bytes([letter]) * 4096)

    process = fork.Process(target=write, daemon=True)
    process.start()
    texts = {bytes([letter]) * 4096 for letter in b"abc"}
    found: set[bytes] = set()
    deadline = time.monotonic() + WAIT_TIMEOUT
    try:
        # Both run at the same time, whatever else does, once each text has been seen.
        while not found >= texts:
            assert time.monotonic() < deadline
            found |= {text.read() for _ in range(1_000)}
    finally:
        process.kill()
        process.join()
    assert found <= {b"", *texts}
