"""What Hypothesis may make up: values as they travel."""

from __future__ import annotations

from hypothesis import strategies as st

from jobclient.protocol.jsonrpc import Json

DEEP = 100_000
"""Brackets nested far beyond what any decoder follows."""

json_values: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)
