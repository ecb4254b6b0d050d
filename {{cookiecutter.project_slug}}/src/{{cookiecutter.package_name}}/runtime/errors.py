"""Errors that end a start with one clear message instead of a traceback."""


class StartupError(Exception):
    """The service cannot start; the message is one line that says what and where."""


class SettingsError(Exception):
    """Invalid settings; the message lists every invalid key, one in each line."""
