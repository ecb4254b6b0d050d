"""Imports in all places but functions."""
# ruff: noqa: E401, F401, I001, SIM105

import wanted_1
import wanted_2 as alias, wanted_3

if True:
    try:
        from wanted_4 import something
    except ImportError:
        pass


class Class:
    import wanted_5
