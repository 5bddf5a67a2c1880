"""Framing: however a stream is cut, the same messages come out, in bounded memory and linear work."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, strategies as st

from jobclient.protocol.framing import (
    MAX_HEADER,
    MAX_MESSAGE,
    OVERSIZED,
    EitherReader,
    FramingLost,
    HeaderReader,
    LineReader,
    Oversized,
    encode_headers,
    encode_line,
)

LIMIT = 12
lines = st.binary(max_size=LIMIT + 4).map(lambda line: line.replace(b"\n", b"\r"))
streams = st.lists(lines, max_size=8).map(b"\n".join)
cuts = st.lists(st.integers(0, 100), max_size=10)


def read(chunks: Iterable[bytes], limit: int = MAX_MESSAGE) -> list[bytes | Oversized]:
    reader = LineReader(limit)
    messages = [message for chunk in chunks for message in reader.feed(chunk)]
    return messages + reader.finish()


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    ends = sorted(min(offset, len(stream)) for offset in at)
    return [stream[start:end] for start, end in zip([0, *ends], [*ends, len(stream)], strict=True)]


def expected(stream: bytes, limit: int) -> list[bytes | Oversized]:
    """The rule in one line, from the whole stream at once."""
    kept = ((line, line.strip(b" \t\r")) for line in stream.split(b"\n"))
    return [OVERSIZED if len(line) > limit else text for line, text in kept if text or len(line) > limit]


@given(stream=streams, at=cuts)
def test_r040_any_chunking_gives_the_same_messages(stream: bytes, at: list[int]) -> None:
    assert read(cut(stream, at), LIMIT) == expected(stream, LIMIT)


@given(stream=streams)
def test_one_byte_at_a_time(stream: bytes) -> None:
    assert read((stream[i : i + 1] for i in range(len(stream))), LIMIT) == expected(stream, LIMIT)


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\n\r\t "), min_size=1), at=cuts)
def test_r040_characters_of_several_bytes_may_be_cut_anywhere(text: str, at: list[int]) -> None:
    assert read(cut(encode_line(text.encode()), at)) == [text.encode()]


@pytest.mark.parametrize(
    ("stream", "messages"),
    [
        (b"", []),
        (b"\n\n\r\n \t\r\n", []),
        (b'{"a":1}\r\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
        (b'\n  {"a":1}\t \n\n', [b'{"a":1}']),
        (b'{"a":1}', [b'{"a":1}']),
        (b'{"a":1}\r', [b'{"a":1}']),
        (b'{"a":\r1}\n', [b'{"a":\r1}']),
    ],
    ids=["empty", "blank lines", "CRLF", "blanks around", "no last newline", "CR at the end", "CR within"],
)
def test_r040_lines(stream: bytes, messages: list[bytes]) -> None:
    assert read([stream]) == messages


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
@pytest.mark.parametrize("step", [1, 5, 100])
def test_the_limit_is_exact_however_the_line_comes(size: int, step: int) -> None:
    stream = b"x" * size + b"\nnext\n"
    chunks = (stream[i : i + step] for i in range(0, len(stream), step))
    assert read(chunks, LIMIT) == [b"x" * size if size <= LIMIT else OVERSIZED, b"next"]


def test_rule_18_r045_an_oversized_line_is_told_once_and_the_stream_goes_on() -> None:
    reader = LineReader(LIMIT)
    assert reader.feed(b"first\n" + b"x" * 20) == [b"first", OVERSIZED]
    assert reader.feed(b"x" * 1000) == []
    assert reader.feed(b"x\nsecond\nth") == [b"second"]
    assert reader.feed(b"ird\n") == [b"third"]
    assert reader.finish() == []


def test_a_stream_that_ends_within_an_oversized_line() -> None:
    assert read([b"x" * 20, b"more"], LIMIT) == [OVERSIZED]


def test_a_finished_reader_holds_nothing() -> None:
    reader = LineReader()
    reader.feed(b"rest")
    assert reader.finish() == [b"rest"]
    assert reader.finish() == []


def test_a_gigabyte_in_one_line_passes_in_bounded_memory() -> None:
    limit, chunk = 1024 * 1024, b"x" * 65536
    reader = LineReader(limit)
    told: list[bytes | Oversized] = []
    most = 0
    for _ in range(2**30 // len(chunk)):
        told += reader.feed(chunk)
        most = max(most, len(reader._buffer))
    assert told == [OVERSIZED]
    assert most <= limit
    assert reader.feed(b"\nafter\n") == [b"after"]


class CountingBuffer(bytearray):
    """Counts the bytes that were searched, so that a test need not measure time."""

    searched = 0

    def find(self, *args: object) -> int:
        start = args[1] if len(args) > 1 else 0
        assert isinstance(start, int)
        end = super().find(b"\n", start)
        self.searched += (len(self) if end < 0 else end + 1) - start
        return end


@pytest.mark.parametrize(
    "stream",
    [b"x" * 50_000 + b"\n", b"x\n" * 25_000, b"\n" * 50_000],
    ids=["one long line", "many short lines", "blank lines"],
)
@pytest.mark.parametrize("step", [7, 50_000])
def test_work_grows_with_the_bytes_not_with_their_square(stream: bytes, step: int) -> None:
    reader = LineReader()
    counting = reader._buffer = CountingBuffer()
    for start in range(0, len(stream), step):
        reader.feed(stream[start : start + step])
    assert counting.searched <= 3 * len(stream)


def test_a_line_is_the_message_and_one_newline() -> None:
    assert encode_line(b"{}") == b"{}\n"
    assert MAX_MESSAGE == 16 * 1024 * 1024


# --- headers --------------------------------------------------------------------------------------------------------

bodies = st.lists(st.binary(min_size=1, max_size=LIMIT + 4), max_size=6)


def read_headers(chunks: Iterable[bytes], limit: int = MAX_MESSAGE) -> list[bytes | Oversized]:
    reader = HeaderReader(limit)
    messages = [message for chunk in chunks for message in reader.feed(chunk)]
    return messages + reader.finish()


@given(messages=bodies, at=cuts)
def test_any_chunking_gives_the_same_messages_behind_headers(messages: list[bytes], at: list[int]) -> None:
    stream = b"".join(map(encode_headers, messages))
    kept = [message if len(message) <= LIMIT else OVERSIZED for message in messages]
    assert read_headers(cut(stream, at), LIMIT) == kept


@given(messages=bodies)
def test_byte_by_byte_is_no_other_stream(messages: list[bytes]) -> None:
    stream = b"".join(map(encode_headers, messages))
    kept = [message if len(message) <= LIMIT else OVERSIZED for message in messages]
    assert read_headers((stream[at : at + 1] for at in range(len(stream))), LIMIT) == kept


def test_a_message_that_is_not_whole_is_none() -> None:
    assert read_headers([encode_headers(b"{}"), b"Content-Length: 3\r\n\r\n{}"]) == [b"{}"]


def test_other_headers_do_not_matter() -> None:
    assert read_headers([b"Content-Type: x; charset=utf-8\r\nCONTENT-LENGTH:2\r\n\r\n{}"]) == [b"{}"]


@pytest.mark.parametrize(
    "stream",
    [
        b"\r\n\r\n", b"Content-Length: x\r\n\r\n", b"Content-Length: -1\r\n\r\n", b"Content-Length: 1_0\r\n\r\n",
        b"Content-Length: 9999999999999\r\n\r\n", b"{}\r\n\r\n", b"x" * MAX_HEADER,
    ],
)  # fmt: skip
def test_rule_18_headers_that_cannot_be_read_lose_the_framing(stream: bytes) -> None:
    with pytest.raises(FramingLost):
        read_headers([stream])


def test_a_long_message_is_not_kept_while_it_is_skipped() -> None:
    reader = HeaderReader(100)
    assert reader.feed(b"Content-Length: 1000000\r\n\r\n" + b"x" * 50) == [OVERSIZED]
    for _ in range(999):
        assert reader.feed(b"x" * 1000) == []
        assert len(reader._buffer) == 0
    assert reader.feed(b"x" * 950 + encode_headers(b"{}")) == [b"{}"]


@given(messages=bodies, at=cuts)
def test_what_came_before_the_framing_was_lost_is_known_however_it_was_cut(
    messages: list[bytes], at: list[int]
) -> None:
    stream = b"".join(map(encode_headers, messages)) + b"Content-Length: no\r\n\r\n{}"
    kept = [message if len(message) <= LIMIT else OVERSIZED for message in messages]
    assert read_either(cut(stream, at)) == (kept, encode_headers, True)


# --- either of them -------------------------------------------------------------------------------------------------

blanks = st.text(" \t\r\n", max_size=5).map(str.encode)
framed = st.sampled_from([encode_line, encode_headers])
objects = st.lists(st.sampled_from([b"{}", b"[]", b'{"a":1}', b"[1,2]", b'{"long":[12345]}']), min_size=1, max_size=6)

Read = tuple[list[bytes | Oversized], Callable[[bytes], bytes], bool]
"""The messages, the framing they are to be answered in, and whether it was lost so that the peer can be told."""


def read_either(chunks: Iterable[bytes]) -> Read:
    reader = EitherReader(LIMIT)
    messages: list[bytes | Oversized] = []
    try:
        for chunk in chunks:
            messages += reader.feed(chunk)
    except FramingLost as exc:
        return messages + exc.before, reader.frame, exc.spoken
    return messages + reader.finish(), reader.frame, False


@given(before=blanks, frame=framed, messages=objects, at=cuts)
def test_s01_the_first_byte_that_is_no_blank_tells(
    before: bytes, frame: Callable[[bytes], bytes], messages: list[bytes], at: list[int]
) -> None:
    stream = before + b"".join(map(frame, messages))
    kept = [message if len(message) <= LIMIT else OVERSIZED for message in messages]
    assert read_either(cut(stream, at)) == (kept, frame, False)


@given(first=objects, second=objects, at=cuts)
def test_s01_the_framing_is_kept(first: list[bytes], second: list[bytes], at: list[int]) -> None:
    """What looks like headers is, among lines, a line that is no message; and the other way it is the end."""
    behind = b"".join(map(encode_headers, second))
    messages, frame, _ = read_either(cut(b"".join(map(encode_line, first)) + behind, at))
    assert frame is encode_line
    assert len(messages) == len(first) + len(LineReader(LIMIT).feed(behind + b"\n"))
    stream = b"".join(map(encode_headers, first)) + b"".join(map(encode_line, second)) + b"\r\n\r\n"
    messages, frame, lost = read_either(cut(stream, at))
    assert (len(messages), frame, lost) == (len(first), encode_headers, True)


@pytest.mark.parametrize("first", sorted(set(range(256)) - set(b"{[Cc \t\r\n")))
def test_s01_no_other_byte_begins_anything(first: int) -> None:
    assert read_either([b"\r\n ", bytes([first]) + b'{"a":1}\n']) == ([], encode_line, False)
    with pytest.raises(FramingLost) as caught:
        EitherReader().feed(bytes([first]))
    assert not caught.value.spoken, "nobody knows how to tell that peer"


def test_s01_who_says_nothing_is_told_things_as_lines() -> None:
    reader = EitherReader()
    assert reader.feed(b" \n") == [] == reader.finish()
    assert reader.frame(b"{}") == b"{}\n"


@given(message=st.text(max_size=50).map(str.encode))
def test_s03_the_header_is_exactly_this(message: bytes) -> None:
    head, _, body = encode_headers(message).partition(b"\r\n\r\n")
    assert head == b"Content-Length: %d" % len(message)
    assert len(head) + 4 <= 100
    assert body == message


names = st.sampled_from([b"content-length", b"Content-Length", b"CONTENT-LENGTH", b" Content-Length "])
others = st.lists(
    st.sampled_from([
        b"Content-Type: application/vscode-jsonrpc; charset=utf8", b"content-type:application/vim-jsonrpc",
        b"C-Unknown: \xff\x00:;", b"Connection", b"Content-Length-Of-Nothing: 7",
    ])
)  # fmt: skip


@given(before=others, name=names, blank=st.sampled_from([b"", b" ", b"\t  "]), after=others, at=cuts)
def test_s02_headers_as_they_come(
    before: list[bytes], name: bytes, blank: bytes, after: list[bytes], at: list[int]
) -> None:
    header = b"\r\n".join([*before, name.lstrip() + b":" + blank + b"2" + blank, *after])
    assert read_either(cut(header + b"\r\n\r\n{}" + encode_headers(b"[]"), at)) == (
        [b"{}", b"[]"],
        encode_headers,
        False,
    )
