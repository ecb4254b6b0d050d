"""Stands in for the library: its import takes longer than any test."""

import time
from pathlib import Path

Path("importing").touch()
time.sleep(600)
