"""The number that a test changes."""

N = 1
