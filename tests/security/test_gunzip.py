"""The one reader of gzip: the same bytes as Python's own, within its bounds."""

import gzip
import io
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.drift.calibration.profile import Profile
from shared import gunzip as module
from shared.gunzip import (
    MOST_MEMBERS,
    PIECE_BYTES,
    BrokenGzip,
    Gunzip,
    GzipRefused,
    gunzip,
    gunzip_stream,
)

MUCH = bytes(random.Random(1).randbytes(300_000)) * 9 + bytes(5_000_000)  # noqa: S311
PACKED = gzip.compress(MUCH, mtime=0)


def test_it_unpacks_what_gzip_packs() -> None:
    assert gunzip(PACKED) == MUCH
    assert gunzip(gzip.compress(b"")) == b""
    assert gunzip_stream(io.BytesIO(PACKED), len(MUCH)).read() == MUCH


@given(parts=st.lists(st.binary(max_size=40), min_size=1, max_size=5), cut=st.integers(1, 30))
def test_members_in_any_pieces_with_padding(parts: list[bytes], cut: int) -> None:
    whole = b"-" + b"".join(parts)
    packed = b"\0\0".join(map(gzip.compress, [b"-", *parts])) + b"\0"
    unpacking = Gunzip(len(whole))
    pieces = (packed[at : at + cut] for at in range(0, len(packed), cut))
    assert b"".join(each for piece in pieces for each in unpacking.pieces(piece)) == whole
    unpacking.finish()


@pytest.mark.parametrize(
    "data",
    [b"", PACKED[:-1], PACKED[:-9], PACKED[:99], PACKED + b"x", PACKED[:99] + PACKED[100:], b"a"],
)
def test_what_is_cut_off_or_damaged_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenGzip, match="broken gzip: "):
        gunzip(data)
    with pytest.raises(BrokenGzip, match="broken gzip: "):
        gunzip_stream(io.BytesIO(data), len(MUCH) + 1).read()


def test_it_is_refused_at_the_first_byte_too_many() -> None:
    assert gunzip(PACKED, len(MUCH)) == MUCH
    with pytest.raises(GzipRefused, match=f"gzip of more than {len(MUCH) - 1:,} bytes"):
        gunzip(PACKED, len(MUCH) - 1)


def test_no_piece_is_large() -> None:
    unpacking = Gunzip(10**9)
    assert max(map(len, unpacking.pieces(PACKED))) <= PIECE_BYTES


def test_gzip_within_gzip_is_refused() -> None:
    with pytest.raises(GzipRefused, match="packed with gzip twice"):
        gunzip(gzip.compress(PACKED))


def test_members_are_counted() -> None:
    empty = gzip.compress(b"", mtime=0)
    assert gunzip(empty * 1_000) == b""
    with pytest.raises(GzipRefused, match=f"gzip of more than {MOST_MEMBERS:,} members"):
        gunzip(empty * (MOST_MEMBERS + 1))


def test_the_deadline_holds_while_it_is_unpacked() -> None:
    unpacking = Gunzip(10**9, until=time.monotonic() + 60)
    assert b"".join(unpacking.pieces(PACKED)) == MUCH
    with pytest.raises(TimeoutError):
        list(Gunzip(10**9, until=time.monotonic() - 1).pieces(PACKED))


def test_a_profile_is_bounded() -> None:
    assert module.LARGEST_BLOB_BYTES == 100_000_000
    bomb = gzip.compress(bytes(1 << 20), mtime=0) * 200
    with pytest.raises(ValueError, match="gzip of more than 100,000,000 bytes"):
        Profile.from_bytes(bomb)
