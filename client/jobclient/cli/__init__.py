"""The command line: `main.py` dispatches; one small file per group of verbs; `render.py` draws."""
