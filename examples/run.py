"""Run a command as a job, show its output as it comes, and end with its exit code: `python run.py make -j8`."""

import sys

from jobclient import Client

with Client() as broker:
    job = broker.start(sys.argv[1:], merged=True).job
    for piece in broker.follow(job.id):
        sys.stdout.buffer.write(piece)
    sys.exit(broker.wait(job.id).jobs[0].exit_code)
