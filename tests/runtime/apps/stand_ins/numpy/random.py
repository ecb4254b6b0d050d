"""Draws numbers from a state that is seeded at import, and that a fork copies."""

import random as python_random

_generator = python_random.Random()
random = _generator.random
seed = _generator.seed
