"""One module per namespace of the protocol: method name -> its parameters' type and what carries it out."""

from __future__ import annotations

from jobbroker.methods import (
    backend,
    broker,
    control,
    events,
    input,  # noqa: A004  # the namespace of the protocol
    job,
    timed,
)
from jobbroker.methods.call import Method

METHODS: dict[str, Method] = {
    **broker.METHODS,
    **job.METHODS,
    **control.METHODS,
    **input.METHODS,
    **events.METHODS,
    **timed.METHODS,
    **backend.METHODS,
}
