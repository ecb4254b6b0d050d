"""What keeps the template going: releases, the exact versions, and tests with the newest ones."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
