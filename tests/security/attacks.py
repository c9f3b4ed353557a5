"""What a hostile feed, file or store has to offer, each small and meant to become large.

`python -m tests.security.attacks NAME` plays one attack in a process of its own, and prints what
was said to it, the processor's time that it took, and by how much memory has grown.
"""

import gzip
import json
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from services.cli.check import BadInput, Stated, check_files
from services.ingest.data_gov_in import _read_page
from services.ingest.http_table import read_address
from services.ingest.rows import validate_rows
from services.ingest.tables import parse_csv, read_file
from services.publisher.publish import report_details
from shared.failures import WillNotPass, WillPass
from shared.pipeline import HttpSource, load_pipeline
from shared.records import DriftReport
from tests.conftest import AIR_QUALITY
from tests.fuzz.inputs import GOOD_ROW
from tests.fuzz.targets import NOW, REFERENCE
from tests.integration.ingest.fault_server import Connection, Play, says, serving

SCHEMA: Final = load_pipeline(AIR_QUALITY).data
MIB: Final = 1 << 20


def bomb(size: int) -> bytes:
    """Few bytes of gzip that unpack to `size` bytes, in one member: readers may stop at its end."""
    packing = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packing.compress(bytes(MIB)) for _ in range(size // MIB)) + packing.flush()


def asked(*plays: Play, **options: Any) -> str:
    """What becomes of a feed that answers so."""
    with serving(*plays) as server:
        stated: dict[str, Any] = {"deadline_seconds": 20, "max_bytes": 20_000_000} | options
        source = HttpSource(kind="http", url=server.url, **stated)
        try:
            return f"read {len(read_address(source, SCHEMA.spellings))} rows"
        except (WillPass, WillNotPass) as error:
            return f"{type(error).__name__}: {error}"


def page(text: str, kind: str = "json") -> str:
    """What becomes of a page of data.gov.in."""
    try:
        found = _read_page(text, {"format": kind}, 0, SCHEMA.spellings)
        rows = validate_rows(found.rows, SCHEMA, NOW)
    except (WillPass, WillNotPass) as error:
        return f"{type(error).__name__}: {error}"
    return (
        f"read {len(rows.valid)} rows, set {len(rows.refused)} aside, {found.rows.shape[1]} columns"
    )


def ingested(name: str, data: bytes) -> str:
    """What becomes of a file to ingest."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        try:
            rows = validate_rows(read_file(path, SCHEMA.spellings), SCHEMA, NOW)
        except WillNotPass as error:
            return str(error).replace(folder, "")
    return f"read {len(rows.valid)} rows, set {len(rows.refused)} aside"


def checked(name: str, data: bytes, *, as_reference: bool = False) -> str:
    """What becomes of a file to check."""
    with tempfile.TemporaryDirectory() as folder:
        hostile, honest = Path(folder, name), Path(folder, "honest.csv")
        hostile.write_bytes(data)
        honest.write_text(REFERENCE)
        pair = (hostile, honest) if as_reference else (honest, hostile)
        try:
            return check_files(*pair, Stated()).verdict
        except BadInput as error:
            return str(error).replace(folder, "")


def packed_thrice() -> str:
    data = gzip.compress(gzip.compress(bomb(500 * MIB), mtime=0), mtime=0)
    return asked(says(data, Content_Encoding="gzip, gzip, gzip"))


def packed_for_the_way() -> str:
    return asked(says(bomb(500 * MIB), Content_Encoding="gzip"))


def packed_file() -> str:
    return asked(says(bomb(500 * MIB)))


def packed_file_for_the_way() -> str:
    return asked(says(gzip.compress(bomb(500 * MIB), mtime=0), Content_Encoding="gzip"))


def unknown_packing() -> str:
    return asked(says(b"abc", Content_Encoding="br"))


def packed_for_longer_than_the_deadline() -> str:
    data = gzip.compress(bytes(MIB), mtime=0) * 1_900
    return asked(says(data, Content_Encoding="gzip"), deadline_seconds=0.5, max_bytes=2_000_000_000)


def page_of_an_error_that_is_packed() -> str:
    return asked(says(bomb(500 * MIB), 400, Content_Encoding="gzip"))


def redirect_with_a_body() -> str:
    def play(connection: Connection) -> None:
        if connection.path != "/":
            connection.answer(",".join(GOOD_ROW) + "\n" + "x," * (len(GOOD_ROW) - 1) + "x\n")
            return
        connection.send_response(302)
        connection.send_header("Location", "/table")
        connection.send_header("Content-Encoding", "gzip")
        connection.send_header("Content-Length", str(10**9))
        connection.end_headers()
        connection.wfile.write(bomb(500 * MIB))
        connection.wfile.flush()

    return asked(play)


def wide_letters() -> str:
    text = "country,x\n" + "India,\N{GRINNING FACE}\n" + "India,abcdefghij\n" * 1_000_000
    return asked(says(text))


def files_that_are_packed() -> str:
    data = bomb(500 * MIB)
    return ingested("a.csv.gz", data) + "; " + checked("a.csv", data)


def lines_without_end() -> str:
    data = b"x" * 40_000_000
    return ingested("a.csv", data) + "; " + checked("a.csv", data)


def packed_rows() -> str:
    data = gzip.compress(b"1\n" * 100_000_000, 1, mtime=0)
    return ingested("a.csv.gz", data[:200_000]) + "; " + ingested("a.csv", b"1\n" * 12_000_000)


def gzip_of_many_members() -> str:
    return ingested("a.csv", gzip.compress(b"", mtime=0) * 500_000)


def _other_keys(rows: int = 20_000) -> list[dict[str, int]]:
    return [{f"k{number}": 1} for number in range(rows)]


def other_keys_in_each_row_of_a_page() -> str:
    return page(json.dumps({"total": 1, "records": _other_keys()}))


def other_keys_in_each_row_of_a_file() -> str:
    return ingested("a.json", json.dumps(_other_keys()).encode())


def other_keys_in_each_row_to_check() -> str:
    return checked("a.json", json.dumps(_other_keys()).encode())


def other_keys_in_each_line_to_check() -> str:
    return checked("a.jsonl", b"\n".join(json.dumps(row).encode() for row in _other_keys()))


def other_keys_in_each_line_of_a_reference() -> str:
    lines = [json.dumps({"value": 1, **row}).encode() for row in _other_keys()]
    return checked("a.jsonl", b"\n".join(lines), as_reference=True)


def other_keys_within_a_column_to_check() -> str:
    rows = [{"value": 1, "x": row} for row in _other_keys()]
    return checked("a.json", json.dumps(rows).encode())


def empty_objects() -> str:
    row = json.dumps(GOOD_ROW)
    return page('{"total": 1, "records": [' + "{}," * 3_000_000 + row + "]}")


def empty_lists_in_a_row() -> str:
    return page('{"records": [{"x": [' + "[]," * 3_000_000 + "[]]}]}")


def members_around_the_rows() -> str:
    members = ",".join(f'"k{number}":[[],[],[],[],[],[],[],[]]' for number in range(300_000))
    return page("{" + members + "}")


def deep_lists() -> str:
    deep = "[" * 50_000 + "]" * 50_000
    lines = '{"value": 1}\n' + f'{{"value": 1, "x": {deep}}}\n' * 3
    return "; ".join(
        [
            checked("a.jsonl", lines.encode()),
            checked("a.json", f'[{{"value": 1, "x": {deep}}}]'.encode()),
            ingested("a.jsonl", lines.encode()),
            page(f'{{"records": [{{"station": {deep}}}]}}'),
        ]
    )


def rather_deep_lists() -> str:
    deep = "[" * 900 + "]" * 900
    row = json.dumps(GOOD_ROW)[:-1] + f', "country": {deep}}}'
    return "; ".join(
        [page(f'{{"records": [{row}]}}'), checked("a.json", f'[{{"value": {deep}}}]'.encode())]
    )


def long_numbers() -> str:
    digits = "9" * 1_000_000
    rows = f'[{{"value": {digits}}}, {{"value": 1e{digits}}}, {{"value": "{digits}x"}}]'
    row = json.dumps(GOOD_ROW | {"latitude": 7}).replace("7,", f"{digits},", 1)
    return "; ".join([checked("a.json", rows.encode()), page(f'{{"records": [{row}]}}')])


def long_cells() -> str:
    """Cells that keep a pattern busy whose time grows with the square of the text."""
    said = []
    for cell in (
        "1" * 300_000 + "x",
        "1," * 150_000 + "x",
        "T1" * 150_000,
        "(" + "1" * 300_000,
        "1 000" * 60_000,
    ):
        rows = [dict.fromkeys(GOOD_ROW, cell)] * 3
        said.append(page(json.dumps({"records": rows})))
        text = f'value,kind\n"{cell}",{"a" * 300_000}\n' * 5
        said.append(checked("a.csv", text.encode()))
        said.append(checked("a.csv", text.encode(), as_reference=True))
    return "; ".join(said)


def wide_header_of_short_rows() -> str:
    header = ",".join(f"c{number}" for number in range(100_000))
    text = f"{header}\n" + "1\n" * 100_000
    try:
        return f"read {parse_csv(text).shape}"
    except WillNotPass as error:
        return str(error)


def wide_header_without_names() -> str:
    header = "value" + "," * 100_000
    return checked("a.csv", (f"{header}\n" + '1,"x"\n' * 100_000).encode())


def texts_of_refusals() -> str:
    long = "x" * 9_000_000
    said = [
        ingested("a.csv", f"{long},{long}\n1,2\n".encode()),
        checked("a.csv", f"{long},{long}\n1,2\n".encode()),
        page(f"{long},{long}\n1,2\n", "csv"),
        page(json.dumps({"records": [{long: 1}]})),
        page(json.dumps({"records": [], "status": "error", "message": long})),
        page(json.dumps({"records": [{"\0fault": long}] * 2})),
        ingested("a.json", json.dumps([{"\0fault": long + str(n)} for n in range(2)]).encode()),
        checked("a.csv", f"{long}\n1\n".encode()),
    ]
    assert all(len(each) < 2_100 for each in said), [len(each) for each in said]
    return "; ".join(each[:80] for each in said)


class _StoreOf:
    def __init__(self, blob: bytes) -> None:
        self._blob = blob

    def blob(self, digest: str) -> bytes:
        del digest
        return self._blob


def published(data: bytes) -> bytes | None:
    """What is published of a check whose blob was replaced."""
    record = DriftReport.model_construct(details="a" * 64)
    store: Any = _StoreOf(data)
    return report_details(record, store)


def report_that_is_a_bomb() -> str:
    return f"published {published(bomb(500 * MIB))!r}"


def report_of_many_numbers() -> str:
    floats = gzip.compress(b'{"feature_drifts": {}, "cells": [' + b"1," * 190_000 + b"1]}")
    return f"published {published(floats)!r}"


def report_of_too_many_numbers() -> str:
    floats = gzip.compress(b'{"feature_drifts": {}, "cells": [' + b"1," * 9_000_000 + b"1]}")
    return f"published {published(floats)!r}"


ATTACKS: Final[dict[str, Callable[[], str]]] = {
    name: value
    for name, value in vars().items()
    if callable(value)
    and getattr(value, "__module__", "") == __name__
    and getattr(value, "__annotations__", None) == {"return": str}
}


def memory(of: str) -> int:
    """Bytes that the process has (VmRSS) or has had at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(of))


def main() -> None:
    attack = ATTACKS[sys.argv[1]]
    asked(says("country\n1\n"))  # what is imported at the first use is no growth
    checked("a.json", b'[{"value": 1}]')
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before, began = memory("VmRSS"), time.process_time()
    said = attack()
    seconds, grown = time.process_time() - began, memory("VmHWM") - before
    sys.stdout.write(json.dumps({"said": said, "seconds": seconds, "grown": grown}) + "\n")


if __name__ == "__main__":
    main()
