"""The broker: a daemon that owns jobs. Start at `__main__.py`; `app.py` draws the tasks."""
