"""Documents of the store, read as the server reads them.

If a document has two fields of one name, the server uses the first and the driver uses the last.
Without this check, somebody could have the server find a document by one value while the MAC fits
the other.
"""

from typing import Any, Final

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from shared.authentication import Unauthentic

Document = dict[str, Any]

RAW: Final[CodecOptions[RawBSONDocument]] = CodecOptions(document_class=RawBSONDocument)
"""How a collection gives what it has for `as_written`."""
_PLAIN: Final[CodecOptions[Document]] = CodecOptions(tz_aware=True)
_UNREADABLE: Final = (BSONError, OverflowError, ValueError, RecursionError)


def as_written(collection: str, raw: RawBSONDocument) -> Document:
    """A document that this system has written.

    Raises:
        Unauthentic: it cannot be read, or written again it is not the same.
    """
    try:
        document = bson.decode(raw.raw, _PLAIN)
        is_same = bson.encode(document) == raw.raw
    except _UNREADABLE as error:
        raise Unauthentic(f"{collection}: {name_of(raw)} cannot be read: {error}") from None
    if not is_same:
        raise Unauthentic(
            f"{collection}: this system did not write {name_of(raw)} in this form; a field may "
            "occur twice"
        )
    return document


def name_of(raw: RawBSONDocument) -> str:
    """A document's id, as a text."""
    try:
        return str(raw["_id"])
    except (*_UNREADABLE, KeyError):
        return "a document whose id cannot be read"
