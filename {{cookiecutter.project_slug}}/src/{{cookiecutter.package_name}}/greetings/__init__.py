"""The sample feature. Delete this folder together with its routes in `app.py`."""
