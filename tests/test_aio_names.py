"""Both Python clients have the same names, called and described the same way."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

from jobclient import AsyncClient, Client


def public(kind: type) -> dict[str, Any]:
    return {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("name", sorted(public(Client)))
def test_a_method_is_called_and_described_as_that_of_the_blocking_client(name: str) -> None:
    here, there = public(AsyncClient)[name], public(Client)[name]
    assert inspect.signature(here).parameters == inspect.signature(there).parameters
    assert here.__doc__ == there.__doc__
    assert inspect.iscoroutinefunction(here) or name in ("follow", "events")


def test_no_name_is_missing() -> None:
    assert set(public(AsyncClient)) == set(public(Client))


def test_without_anyio_it_says_what_to_install() -> None:
    script = "import sys; sys.modules['anyio'] = None; import jobclient; jobclient.Client; jobclient.AsyncClient"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "ImportError: AsyncClient needs anyio  -> pip install 'jobbroker[async]'" in done.stderr
