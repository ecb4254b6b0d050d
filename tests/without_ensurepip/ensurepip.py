"""Python without ensurepip, as Debian has it."""

raise ImportError
