"""Without any library: a socket, and one JSON object a line."""

import json
import socket
import subprocess

with socket.socket(socket.AF_UNIX) as broker:
    broker.connect(subprocess.check_output(["jobctl", "socket-path"], text=True).strip())
    request = {"jsonrpc": "2.0", "id": 1, "method": "job/start", "params": {"argv": ["true"], "name": "plain"}}
    broker.sendall(json.dumps(request).encode() + b"\n")
    job = json.loads(broker.makefile().readline())["result"]["job"]
    print(job["name"], job["kind"])
