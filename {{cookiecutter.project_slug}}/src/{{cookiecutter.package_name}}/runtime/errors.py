"""Errors that end a process with one clear message instead of a traceback."""


class StartupError(Exception):
    """The service cannot start; the message is one line that says what and where."""


class ShutdownError(Exception):
    """The service has stopped, but not cleanly; the message is one line that says what failed."""


class SettingsError(Exception):
    """Invalid settings; the message lists every invalid key, one in each line."""
