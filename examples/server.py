"""Start a server, go on once it listens, and leave nothing of it behind."""

from jobclient import Client

with Client() as broker:
    server = broker.start(["sh", "-c", "sleep 0.2; echo Listening on 8080; sleep 600"], name="server").job
    found = broker.wait(server.id, until_output=r"Listening on \d+", timeout_ms=30_000).match
    print(found.line if found else "it never came up")
    print(broker.run(["echo", "testing"], check=True).status)
    print(broker.cancel(server.id).job.status)
