"""Tell of every job of a name as it goes, whoever started it; ends with the first that ends."""

from jobclient import Client
from jobclient.protocol.wire import Filter, JobUpdated

with Client() as broker:
    broker.start(["sh", "-c", "sleep 0.3; exit 2"], name="tests")
    for event in broker.events(Filter(name="tests")):
        if isinstance(event, JobUpdated):
            print(event.job.name, event.job.status, event.job.exit_code)
            if event.job.completed_at:
                break
