"""The one reader of gzip from outside: bounded in bytes, in memory and in time.

A stream comes out in pieces of at most `PIECE_BYTES`, so a small input that unpacks to a large one
is refused before it is in memory. What comes out must not be gzip again: one encoding is enough.
"""

import io
import zlib
from collections.abc import Iterator
from time import monotonic
from typing import BinaryIO, Final

from shared.failures import WillNotPass

MAGIC: Final = b"\x1f\x8b"
"""How gzip begins."""
PIECE_BYTES: Final = 1 << 20
"""What is unpacked at once."""
MOST_MEMBERS: Final = 100_000
"""A gzip stream is a series of members. Compressors that work in blocks write one for each 64 kB.
"""
LARGEST_BLOB_BYTES: Final = 100_000_000
"""Of what Trimtab packs itself, such as a reference's profile, once it is unpacked."""
LARGEST_REPORT_BYTES: Final = 20_000_000
"""Of a drift report, once it is unpacked. One of a thousand columns has about a tenth of that."""

_INPUT_BYTES: Final = 1 << 14
_GZIP_FORMAT: Final = 16 + zlib.MAX_WBITS


class GzipRefused(WillNotPass):
    """Bytes that are broken gzip, gzip within gzip, or unpack to more than is allowed."""


class BrokenGzip(GzipRefused):
    """Bytes that are cut off or damaged."""


class Gunzip:
    """Unpacks one gzip stream, which comes in any pieces."""

    def __init__(self, most_bytes: int, until: float | None = None) -> None:
        """Unpack nothing yet.

        Args:
            most_bytes: that may come out.
            until: when unpacking is given up, as `time.monotonic` tells it; None: never.
        """
        self._most_bytes = most_bytes
        self._until = until
        self._member = zlib.decompressobj(_GZIP_FORMAT)
        self._members = 1
        self._is_begun = False
        self._beginning = b""
        self._bytes = 0

    def pieces(self, data: bytes | memoryview) -> Iterator[bytes]:
        """What the next bytes of the stream unpack to.

        Raises:
            GzipRefused: the stream is broken, or unpacks to more than is allowed, or to gzip.
            TimeoutError: it is too late.
        """
        for at in range(0, len(data), _INPUT_BYTES):
            waiting = bytes(data[at : at + _INPUT_BYTES])
            while waiting:
                if self._member.eof and not self._begin_next(waiting := waiting.lstrip(b"\0")):
                    break
                if piece := self._unpacked(waiting):
                    yield piece
                waiting = self._member.unused_data or self._member.unconsumed_tail
            while piece := self._held():
                yield piece

    def finish(self) -> None:
        """Note that no more comes.

        Raises:
            GzipRefused: the stream is not complete.
        """
        if not self._member.eof:
            raise BrokenGzip("broken gzip: its end is missing")

    def _begin_next(self, waiting: bytes) -> bool:
        """Begin the member behind the last one; False if only the padding behind it has come."""
        if not waiting:
            return False
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise GzipRefused(f"gzip of more than {MOST_MEMBERS:,} members")
        self._member = zlib.decompressobj(_GZIP_FORMAT)
        return True

    def _held(self) -> bytes:
        """What the last input still unpacks to; zlib may have taken in all of it."""
        return b"" if self._member.eof else self._unpacked(b"")

    def _unpacked(self, waiting: bytes) -> bytes:
        if self._until is not None and monotonic() > self._until:
            raise TimeoutError
        try:
            piece = self._member.decompress(waiting, PIECE_BYTES)
        except zlib.error as error:
            raise BrokenGzip(f"broken gzip: {error}") from None
        self._bytes += len(piece)
        if self._bytes > self._most_bytes:
            raise GzipRefused(f"gzip of more than {self._most_bytes:,} bytes")
        self._refuse_nested(piece)
        return piece

    def _refuse_nested(self, piece: bytes) -> None:
        if len(self._beginning) < len(MAGIC):
            self._beginning += piece[: len(MAGIC)]
            if self._beginning.startswith(MAGIC):
                raise GzipRefused("packed with gzip twice; unpack it once")


def gunzip(
    data: bytes | bytearray, most_bytes: int = LARGEST_BLOB_BYTES, until: float | None = None
) -> bytes:
    """The bytes that were packed.

    Args:
        until: as of `Gunzip`.

    Raises:
        GzipRefused: they are broken, more than `most_bytes`, or gzip again.
        TimeoutError: it is too late.
    """
    unpacking = Gunzip(most_bytes, until)
    content = b"".join(unpacking.pieces(memoryview(data)))
    unpacking.finish()
    return content


class _GunzipStream(io.RawIOBase):
    """The unpacked bytes of a packed file."""

    def __init__(self, file: BinaryIO, most_bytes: int) -> None:
        self._file = file
        self._unpacking = Gunzip(most_bytes)
        self._pieces: Iterator[bytes] = iter(())
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._piece and self._advance():
            pass
        taken = min(len(buffer), len(self._piece))
        buffer[:taken] = self._piece[:taken]
        self._piece = self._piece[taken:]
        return taken

    def _advance(self) -> bool:
        """Take up the next piece; False at the end."""
        if (piece := next(self._pieces, None)) is not None:
            self._piece = memoryview(piece)
            return True
        if packed := self._file.read(_INPUT_BYTES):
            self._pieces = self._unpacking.pieces(packed)
            return True
        self._unpacking.finish()
        return False


def gunzip_stream(file: BinaryIO, most_bytes: int) -> io.BufferedReader:
    """The unpacked bytes of a packed file; reading them raises as `gunzip` does."""
    return io.BufferedReader(_GunzipStream(file, most_bytes), PIECE_BYTES)
