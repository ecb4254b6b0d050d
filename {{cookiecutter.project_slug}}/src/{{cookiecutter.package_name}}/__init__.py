"""The service. Its parts are put together in `app.py`."""

__version__ = "0.1.0"
