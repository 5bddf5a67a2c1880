"""A thousand jobs that do nothing: what the broker adds to what the processes cost anyway."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from bench.cost import cpu_of, cpu_of_tree, report
from harness import Home, Processes, Wire, command, eventually
from jobbroker.identity import read_stat
from jobbroker.tree import children

JOBS = 1000
ROUNDS = 5


def main() -> None:
    print(f"{JOBS} x `true`, CPU")
    with tempfile.TemporaryDirectory() as folder, Processes():
        home = Home(Path(folder), JOBBROKER_MAX_RUNNING="16")
        pid = home.start()
        rounds = [one_round(home, pid) for _ in range(ROUNDS)]
        home.close()
    rounds.sort()
    whole, shims, tsp = (sorted(values)[len(values) // 2] for values in zip(*rounds, strict=True))
    report("fork server + shims + jobs / bare Popen loop", shims, "<= 1.8")
    report("the same + daemon + client / bare Popen loop", whole, "<= 2.5")
    if tsp:
        report("the same / tsp -S 2 with output files", tsp, "<= 0.9")
    else:
        print("  (task-spooler is not installed: no ratio against it)")


def one_round(home: Home, pid: int) -> tuple[float, float, float]:
    ours, shims = through_broker(home, pid)
    bare = popen_loop()
    tsp = task_spooler() if shutil.which("tsp") else 0.0
    return ours / bare, shims / bare, ours / tsp if tsp else 0.0


def through_broker(home: Home, pid: int) -> tuple[float, float]:
    """CPU of everything, and of everything but daemon and client."""
    before, daemon_before, own_before = cpu_of_tree(pid), cpu_of(pid), time.process_time()
    with Wire(str(home.socket)) as wire:
        calls = [{"jsonrpc": "2.0", "id": n, "method": "job/start", "params": {"argv": ["true"]}} for n in range(JOBS)]
        wire.write(calls)
        assert len(wire.read()) == JOBS
        wire.call("job/wait", all=True)
    daemon = cpu_of(pid) - daemon_before
    shims = cpu_of_tree(pid) - before - daemon
    return shims + daemon + time.process_time() - own_before, shims


def popen_loop() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = time.process_time()
    for _ in range(JOBS):
        subprocess.Popen(["true"], cwd="/", start_new_session=True, stdout=subprocess.DEVNULL).wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() - own + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def task_spooler() -> float:
    """The same jobs through tsp, its server included, output to files."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "TMPDIR": folder, "TS_SOCKET": f"{folder}/socket"}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        script = f"tsp -S 2; for i in $(seq {JOBS}); do tsp true; done >/dev/null; tsp -w"
        subprocess.run(["sh", "-c", script], env=env, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["tsp", "-K"], env=env, check=False)
        eventually(reap_orphans, "everything of tsp ends")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def reap_orphans() -> bool:
    """Collect what was left to us, so that its CPU is counted; whether nothing of it lives. Its clients stay behind."""
    for pid in children(os.getpid()):
        stat = read_stat(pid)
        if stat is not None and stat[0] == b"Z":
            os.waitpid(pid, 0)
    return not any(command(pid).startswith("tsp") for pid in children(os.getpid()))


if __name__ == "__main__":
    main()
