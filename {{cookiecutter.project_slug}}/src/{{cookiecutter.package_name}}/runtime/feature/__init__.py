"""Writes a feature of the service, with its tests: ``make feature NAME=orders``.

For development only: nothing imports this room, and it imports no other. Begin with `__main__`.
"""
