#!/bin/sh
# The main job, end to end, in a broker of its own that leaves nothing behind: what `make run` shows.
set -eu

jobctl=${JOBCTL:-jobctl}
home=$(mktemp -d)
export JOBBROKER_RUNTIME_DIR="$home/run" JOBBROKER_STATE_DIR="$home/state" JOBBROKER_CONFIG="$home/config.toml"
trap '"$jobctl" broker stop --jobs cancel >/dev/null 2>&1 || true; rm -rf "$home"' EXIT

show() {
    printf '\n$ %s\n' "$1"
    set +e
    eval "$1"
    code=$?
    set -e
}

jobctl() { "$jobctl" "$@"; }

show "jobctl run -n count -- sh -c 'for n in 1 2 3; do echo line \$n; sleep 0.3; done; exit 3'"
printf 'exit code: %s\n' "$code"
[ "$code" -eq 3 ] || exit 1
show 'jobctl start -n nap -- sleep 60'
pid=$("$jobctl" broker status -q)
show "kill -9 $pid    # the broker; the next call starts another, and nothing is lost"
show 'jobctl list'
show 'jobctl cancel nap'
show 'jobctl list'
