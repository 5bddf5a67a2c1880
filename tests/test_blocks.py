"""Lines out of pieces: every line is examined once, whole, and its place is known, however the stream is cut."""

from __future__ import annotations

from hypothesis import given, strategies as st

from jobbroker.core.blocks import MAX_LINE, Blocks

TEXTS = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n\n", b"def\n"]), max_size=30).map(b"".join)


def cut(text: bytes, sizes: list[int]) -> list[tuple[int, bytes]]:
    """A text in pieces of these sizes, again and again."""
    pieces: list[tuple[int, bytes]] = []
    at = 0
    while at < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append((at, text[at : at + size]))
        at += size
    return pieces


@given(TEXTS, st.lists(st.integers(1, 7), min_size=1, max_size=5))
def test_every_byte_is_examined_once_and_its_place_is_known(text: bytes, sizes: list[int]) -> None:
    blocks, seen = Blocks(), b""
    pieces = cut(text, sizes)
    for number, (start, data) in enumerate(pieces, 1):
        block = blocks.feed(data, start, gap=False, over=number == len(pieces))
        assert number == len(pieces) or not block.data or block.data.endswith(b"\n"), "whole lines"
        for at in range(len(block.data)):
            place = block.place(at)
            assert text[place.start + place.after] == block.data[at]
            assert place.start + place.after == len(seen) + at
        seen += block.data
    assert seen == text


def test_the_rest_of_a_line_that_is_too_long_is_left_out() -> None:
    blocks = Blocks()
    assert blocks.feed(b"x" * MAX_LINE, 0, gap=False, over=False).data == b""
    first = blocks.feed(b"yy", MAX_LINE, gap=False, over=False)
    assert (len(first.data), first.data.strip(b"x")) == (MAX_LINE, b"")
    assert blocks.feed(b"z" * 100, MAX_LINE + 2, gap=False, over=False).data == b""
    following = blocks.feed(b"zz\nnext\nrest", MAX_LINE + 102, gap=False, over=False)
    assert following.data == b"next\n"
    assert sum(following.place(0)) == MAX_LINE + 105
    last = blocks.feed(b" of it\n", MAX_LINE + 114, gap=False, over=False)
    assert (last.data, sum(last.place(0)), sum(last.place(4))) == (b"rest of it\n", MAX_LINE + 110, MAX_LINE + 114)


def test_a_gap_ends_a_line() -> None:
    blocks = Blocks()
    blocks.feed(b"begun", 0, gap=False, over=False)
    block = blocks.feed(b"other\n", 100, gap=True, over=False)
    assert (block.data, block.place(0)) == (b"other\n", (100, 0))
