"""The package of this service; `app.py` builds the application."""

__version__ = "0.1.0"
