"""What a job writes, as clients get it: live, complete, in order, byte for byte, and with what is missing counted."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Message, Wire
from jobctl import Cli


def pieces(wire: Wire, job: str, **params: object) -> Iterator[Message]:
    """All pieces from some cursor to the end, as a follower asks for them."""
    cursor = params.pop("cursor", "0")
    while True:
        piece = wire.call("job/output", id=job, waitMs=30_000, **params, **{"from": cursor})
        yield piece
        cursor = piece["next"]
        if piece["eof"]:
            return


def data_of(piece: Message) -> bytes:
    return base64.b64decode(piece["data"]) if piece["encoding"] == "base64" else piece["data"].encode()


def whole(wire: Wire, job: str, **params: object) -> tuple[bytes, int]:
    """Everything that is kept, and the count of what is not."""
    read = list(pieces(wire, job, **params))
    return b"".join(map(data_of, read)), sum(piece["dropped"] for piece in read)


def gated(tmp_path: Path, before: str, after: str) -> tuple[list[str], Path]:
    """A shell that runs one script, waits until something is written to the FIFO, and runs the other."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    return ["sh", "-c", f"{before}; read x < {fifo}; {after}"], fifo


# --- R018, R134 - R141 ----------------------------------------------------------------------------------------------


def test_r018_what_was_written_before_the_end_is_there_in_the_order_of_arrival(client: Wire) -> None:
    script = "for n in 1 2 3 4 5; do echo out$n; echo err$n >&2; done; printf last"
    job = client.run("sh", "-c", script)["id"]
    assert whole(client, job, stream="stdout")[0] == b"out1\nout2\nout3\nout4\nout5\nlast"
    assert whole(client, job, stream="stderr")[0] == b"err1\nerr2\nerr3\nerr4\nerr5\n"
    merged = client.run("sh", "-c", script, merged=True)["id"]
    assert whole(client, merged)[0] == b"".join(b"out%d\nerr%d\n" % (n, n) for n in range(1, 6)) + b"last"


def test_r134_what_is_over_the_limit_is_dropped_oldest_first_and_counted(client: Wire) -> None:
    job = client.run("seq", "100000", maxOutput=100_000)
    written = b"".join(b"%d\n" % n for n in range(1, 100_001))
    kept, dropped = whole(client, job["id"])
    assert len(kept) + dropped == len(written) == job["stdout"]["size"]
    assert job["stdout"]["dropped"] == dropped
    assert len(kept) <= 100_000
    assert kept[:10_000] == written[:10_000]
    assert written.endswith(kept[10_000:])
    one_write = client.run("dd", "if=/dev/zero", "bs=1000000", "count=1", "status=none", maxOutput=50_000)
    kept, dropped = whole(client, one_write["id"])
    assert (len(kept) + dropped, one_write["stdout"]["size"]) == (1_000_000, 1_000_000)


def test_r135_reading_takes_nothing_away_and_the_end_is_the_end_every_time(client: Wire) -> None:
    job = client.run("printf", "abc")["id"]
    first = client.call("job/output", id=job)
    assert first["data"] == "abc"
    assert client.call("job/output", id=job) == first
    for _ in range(3):
        over = client.call("job/output", id=job, waitMs=10**9, **{"from": first["next"]})
        assert (over["data"], over["eof"]) == ("", True)


def test_r136_a_follower_is_woken_by_what_comes_and_told_what_he_missed(client: Wire, tmp_path: Path) -> None:
    argv, fifo = gated(tmp_path, "printf early", "yes 0123456789 | head -c 300000; printf end")
    job = client.start(*argv, maxOutput=30_000)["id"]
    client.until_output(job, "early")
    waiting = client.send("job/output", id=job, waitMs=30_000, **{"from": "5"})
    fifo.write_text("go\n")
    assert client.answer(waiting)["data"].startswith("0123456789")
    client.ended(job)
    for stream in ("all", "stdout"):
        late = client.call("job/output", id=job, stream=stream, **{"from": "5000"})
        assert late["dropped"] == int(late["start"]) - 5000 > 0
        kept, dropped = whole(client, job, stream=stream, cursor="5000")
        assert (len(kept) + dropped, kept[-3:]) == (300_008 - 5000, b"end")
    silent = client.start("sh", "-c", "read x < " + str(fifo))["id"]
    waiting = client.send("job/output", id=silent, waitMs=10**9)
    client.call("broker/ping")  # so it waits by now
    fifo.write_text("go\n")
    assert client.answer(waiting)["eof"] is True, "the end wakes, not the time"
    nothing = client.call("job/output", id=job, stream="stderr", **{"from": "5000"})
    assert (nothing["data"], nothing["dropped"], nothing["eof"]) == ("", 0, True)
    assert client.refused("job/output", id=job, **{"from": "300009"}).code == -32602


def test_r137_output_is_live(client: Wire, tmp_path: Path) -> None:
    argv, fifo = gated(tmp_path, "echo A", "echo B")
    job = client.start(*argv)["id"]
    assert client.until_output(job, "A\n") == "A\n"
    assert client.get(job)["status"] == "running"
    fifo.write_text("go\n")
    assert client.until_output(job, "B\n") == "A\nB\n"


def test_r138_who_hears_of_the_end_finds_the_output_complete(client: Wire) -> None:
    client.call("events/subscribe")
    for _ in range(20):
        job = client.start("sh", "-c", "printf out; printf err >&2")["id"]
        while (told := client.note("notifications/job/updated")["job"])["id"] != job or told["status"] in (
            "queued",
            "running",
        ):
            pass
        assert [told[stream] for stream in ("stdout", "stderr")] == [{"size": 3, "dropped": 0, "closed": True}] * 2
        assert (client.output(job, stream="stdout"), client.output(job, stream="stderr")) == ("out", "err")
    client.call("events/unsubscribe")


@pytest.mark.parametrize("limit", [1, 3, 1000, 1 << 20])
def test_r139_bytes_are_bytes_at_any_chunking(client: Wire, tmp_path: Path, limit: int) -> None:
    data = bytes(range(256)) + "aüböc€𝄞\n".encode() * 9 + b"\0\xff no newline at the end"
    (tmp_path / "data").write_bytes(data)
    job = client.run("cat", str(tmp_path / "data"))["id"]
    assert whole(client, job, limit=limit) == (data, 0)
    empty = client.run("true")["id"]
    assert client.call("job/output", id=empty)["data"] == ""
    assert client.refused("job/output", id="bbbbbb").kind == "job_not_found"


def test_r139_what_is_missing_is_said_aloud(cli: Cli) -> None:
    done = cli("run", "--max-output", "20k", "--", "sh", "-c", "yes 0123456789 | head -c 200000")
    told = re.findall(r"(\d+) bytes of output were not kept here", done.stderr)
    assert told, "once for each gap the follower fell into"
    assert len(done.stdout) + sum(map(int, told)) == 200_000


def test_r140_the_end_does_not_wait_for_who_holds_the_pipe(client: Wire) -> None:
    job = client.run("sh", "-c", "setsid sleep 1000 & (setsid sh -c 'sleep 1000' &); echo done", timeoutMs=25_000)
    assert (job["status"], job["exitCode"]) == ("completed", 0)
    assert client.output(job["id"]) == "done\n"


def test_r141_a_job_is_never_held_up_by_who_does_not_read(client: Wire) -> None:
    job = client.run("sh", "-c", "head -c 30000000 /dev/zero; head -c 30000000 /dev/zero >&2; printf '\\nover\\n' >&2",
                     maxOutput=1_000_000, timeoutMs=25_000)  # fmt: skip
    assert (job["status"], job["stdout"]["size"], job["stderr"]["size"]) == ("completed", 30_000_000, 30_000_006)
    assert client.output(job["id"], stream="stderr", tail=1) == "over\n"


# --- times ------------------------------------------------------------------------------------------------------------


def test_marks_tell_who_wrote_what_and_when(client: Wire, tmp_path: Path) -> None:
    argv, fifo = gated(tmp_path, "printf aü; sleep 0.1; printf b >&2", "printf c")
    job = client.start(*argv)["id"]
    client.until_output(job, "aüb")
    fifo.write_text("go\n")
    ended = client.ended(job)
    piece = client.call("job/output", id=job, times=True)
    assert piece["data"] == "aübc"
    assert [(mark["at"], mark["stream"]) for mark in piece["marks"]] == [(0, "stdout"), (3, "stderr"), (4, "stdout")]
    times = [mark["time"] for mark in piece["marks"]]
    assert times == sorted(times)
    assert ended["startedAt"] <= times[0] < times[1] <= times[2] <= ended["completedAt"]
    middle = client.call("job/output", id=job, times=True, limit=3, **{"from": "1"})
    assert [mark["at"] for mark in middle["marks"]] == [0, 2], "a part that began before the piece begins it"
    assert middle["marks"][0]["time"] == times[0]
    one = client.call("job/output", id=job, times=True, stream="stderr")
    assert (one["data"], one["marks"]) == ("b", [{"at": 0, "time": times[1], "stream": "stderr"}])
    cut = client.call("job/output", id=job, times=True, limit=2)
    assert (cut["data"], len(cut["marks"])) == ("a", 1)
    halves = client.run("sh", "-c", "printf a; sleep 0.1; printf ü >&2")["id"]
    cut = client.call("job/output", id=halves, times=True, limit=2)
    assert (cut["data"], [mark["at"] for mark in cut["marks"]]) == ("a", [0]), "half a character is left for later"
    assert "marks" not in client.call("job/output", id=job)
    assert client.call("job/output", id=job, times=True, **{"from": piece["next"]})["marks"] == []


def test_output_with_times_on_the_command_line(cli: Cli, tmp_path: Path) -> None:
    argv, fifo = gated(tmp_path, "printf 'one\\ntw'; sleep 0.1; printf 'O\\n' >&2; sleep 0.1", "printf '\\377\\000'")
    job = cli.start("--split", "--", *argv)
    following = cli.begin("output", "-f", "--time", "iso", job)
    assert following.stdout is not None
    lines = [following.stdout.readline() for _ in range(2)]
    fifo.write_text("go\n")
    rest, _ = following.communicate(timeout=30)
    moments = [line.split(" ")[0] for line in [*lines, rest]]
    assert [line.split(" ")[1] for line in [*lines, rest]] == ["one\n", "twO\n", "\udcff\0"]
    assert moments == sorted(moments)
    assert cli.ok("output", "--time", "iso", job) == "".join([*lines, rest])
    local = cli.ok("output", "-t", "--tail", "3", job, TZ="UTC0").splitlines()
    assert local[0] == moments[0].replace("T", " ").removesuffix("Z") + " one"
    assert re.fullmatch(r"\d{10}\.\d{3} one\n", cli.ok("output", "--time", "unix", "--head", "1", job))
    assert cli.json("output", "-t", "--json", job)["marks"][0]["at"] == 0
