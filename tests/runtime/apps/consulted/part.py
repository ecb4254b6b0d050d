"""The module that the library imports."""
