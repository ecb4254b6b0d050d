"""A library that draws its numbers as `numpy.random` does, and that nobody knows."""

import random as python_random

random = python_random.Random().random
