"""Jobs of every fate, and that what is said of each is true, whatever happens to the broker."""

from __future__ import annotations

from harness import eventually
from usermanager import UserManager


class Jobs:
    """Jobs of every fate: some have ended, some end when they are let go, one runs on."""

    def __init__(self, manager: UserManager) -> None:
        self.manager = manager
        self.gate = manager.home / "gate"
        self.gate.unlink(missing_ok=True)
        wait = f"until [ -e {self.gate} ]; do sleep 0.02; done;"
        with manager.connect() as wire:
            self.fates = {
                wire.shell("exit 3")["id"]: ("failed", 3, None),
                wire.shell(f"{wait} echo let go; exit 7")["id"]: ("failed", 7, None),
                wire.shell(f"{wait} echo let go; kill -SEGV $$")["id"]: ("failed", None, "SIGSEGV"),
                wire.shell(f"{wait} echo let go")["id"]: ("completed", 0, None),
                wire.shell("sleep 600", timeoutMs=600_000)["id"]: ("running", None, None),
            }
            self.pids = {name: wire.get(name)["pid"] for name in self.fates}

    def let_go(self) -> None:
        """Those that wait end now."""
        self.gate.touch()

    def until_gone(self) -> None:
        """Those that were let go are dead, whoever has noticed."""
        ending = [str(self.pids[name]) for name, fate in self.fates.items() if fate[0] != "running"]
        eventually(lambda: self.manager.run("ps", "-p", ",".join(ending), "-o", "pid=").returncode, "they are gone")

    def check(self) -> None:
        """Every status is true, and so is all output."""
        self.let_go()
        with self.manager.connect() as wire:
            for name, (status, code, signal_name) in self.fates.items():
                job = wire.get(name) if status == "running" else wire.ended(name)
                assert (job["status"], job["exitCode"], job["signal"]) == (status, code, signal_name), job
                assert job["pid"] == self.pids[name]
                if status != "running" and code != 3:
                    assert wire.output(name) == "let go\n"
            listed = {job["id"]: job["status"] for job in wire.call("job/list")["jobs"]}
            assert listed == {name: fate[0] for name, fate in self.fates.items()}
            assert self.manager.run("ps", "-p", str(self.pids[next(reversed(self.fates))])).returncode == 0
