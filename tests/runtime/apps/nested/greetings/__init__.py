"""A part of the service."""
