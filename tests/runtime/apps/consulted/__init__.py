"""A service with a library that imports a module of the service."""
