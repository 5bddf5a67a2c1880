"""The units by which the user's systemd runs a broker: their names, their texts, and what of them is written where.

The files of `systemd/` in the source are these texts for a program at its usual place; a test holds them to it.
"""

from __future__ import annotations

from jobclient.paths import DEFAULT_INSTANCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM = ("%h/.local/bin/jobbrokerd",)
"""Where `pipx install` puts it."""
TEMPLATE = "%i"
"""Stands for the instance in the units that serve all of them but the default one."""

_SOCKET = """\
[Unit]
Description=jobbroker{of}: where its clients connect
Documentation=https://www.freedesktop.org/software/systemd/man/latest/systemd.socket.html

[Socket]
ListenStream=%t/jobbroker/{name}.sock
SocketMode=0600
DirectoryMode=0700
# Else a client could not tell that nobody listens any more
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""

_SERVICE = """\
[Unit]
Description=jobbroker{of}: long work that outlives terminals, editors and agents
Documentation=https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html
Requires={unit}.socket
After={unit}.socket
StartLimitIntervalSec=60
StartLimitBurst=6

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
{environment}# The broker owns no job's life: stopping or restarting it leaves jobs running. To end them too:
# jobctl broker stop --jobs cancel
KillMode=process
# Ten thousand jobs are adopted in seconds; a store that has to be made again takes longer
TimeoutStartSec=5min
TimeoutStopSec=20s
Restart=on-failure
RestartSec=200ms
# 2 usage, 75 another broker runs, 78 settings or store not usable: another try would end the same
RestartPreventExitStatus=2 75 78
# A broker that answers nobody is replaced; its jobs do not notice
WatchdogSec=30s
TimeoutAbortSec=5s
# One job that runs out of memory must not take the broker down with it
OOMPolicy=continue
Delegate=yes
UMask=0077
Slice=app.slice
# No sandbox: jobs would inherit it, and sudo or ping in a job would fail

[Install]
WantedBy=default.target
"""


def unit(instance: str) -> str:
    """The name of an instance's units, without `.socket` and `.service`."""
    return "jobbroker" if instance == DEFAULT_INSTANCE else f"jobbroker@{instance}"


def files(instance: str, program: Sequence[str] = PROGRAM, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The texts of an instance's unit files, by their names; all instances but the default one share theirs.

    Args:
        instance: whose they are.
        program: the words that start `jobbrokerd`, as systemd takes them.
        environ: what is set for it besides what the manager sets.
    """
    default = instance == DEFAULT_INSTANCE
    base = "jobbroker" if default else "jobbroker@"
    words = [*program, "--stderr", *(() if default else ("--instance", TEMPLATE))]
    told = "".join(f'Environment="{name}={_escaped(value)}"\n' for name, value in sorted((environ or {}).items()))
    texts = {
        "of": "" if default else f" ({TEMPLATE})",
        "name": DEFAULT_INSTANCE if default else TEMPLATE,
        "unit": "jobbroker" if default else f"jobbroker@{TEMPLATE}",
        "command": " ".join(words),
        "environment": told,
    }
    return {f"{base}.socket": _SOCKET.format(**texts), f"{base}.service": _SERVICE.format(**texts)}


def literal(path: str) -> str:
    """The path of a program, as the first word of a command that systemd runs.

    Raises:
        ValueError: systemd runs no program of such a name.
    """
    if any(character in "\"'\\\n" for character in path):
        raise ValueError(f"systemd runs no program whose path holds a quote, a backslash or a line break: {path!r}")
    path = path.replace("%", "%%")
    return f'"{path}"' if any(character in " \t;" for character in path) else path


def _escaped(value: str) -> str:
    return _quoted(value.replace("%", "%%"))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
