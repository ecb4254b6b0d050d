"""What a function imports is not imported before the fork."""
# ruff: noqa: F401


def function() -> None:
    import unwanted_1


async def coroutine() -> None:
    import unwanted_2


class Class:
    def method(self) -> None:
        from unwanted_3 import something
