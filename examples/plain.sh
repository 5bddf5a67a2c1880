#!/bin/sh
# Without any library, and without a socket: one JSON object a line on stdin and stdout of `jobctl rpc`.
ask() { printf '%s\n' "$1" | jobctl rpc; }

ask '{"id":1,"method":"job/start","params":{"argv":["sh","-c","echo hello"],"name":"greeting"}}' >/dev/null
ask '{"id":2,"method":"job/wait","params":{"ids":["greeting"]}}' >/dev/null
ask '{"id":3,"method":"job/output","params":{"id":"greeting"}}'
