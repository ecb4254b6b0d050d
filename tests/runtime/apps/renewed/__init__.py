"""A service that a reload renews: a test copies it, and then replaces `revision.py`."""
