"""What stops an update."""


class UpdateError(Exception):
    """Stops the update before anything was changed. The message tells the user what to do."""
