"""Later versions of `renewed/revision.py`."""
