"""One module per namespace of the protocol: method name -> its parameters' type and what carries it out."""

from __future__ import annotations

from jobbroker.methods import broker, control, events, input, job, timed  # noqa: A004  # the namespaces of the protocol
from jobbroker.methods.call import Method

METHODS: dict[str, Method] = {
    **broker.METHODS,
    **job.METHODS,
    **control.METHODS,
    **input.METHODS,
    **events.METHODS,
    **timed.METHODS,
}
