"""What a peer does, in its own process."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.types as kinds


class Peer(ABC):
    """A way to check a batch against a stored reference."""

    package: ClassVar[str | None] = None
    """The distribution whose version is told."""

    @abstractmethod
    def fit(self, reference: pa.Table) -> None:
        """Keep what a check needs of the reference."""

    @abstractmethod
    def load(self, batch: pa.Table) -> None:
        """Bring a batch into the form that the library takes; this is not timed."""

    @abstractmethod
    def check(self) -> Any:
        """Check the batch that was loaded; this is timed."""

    @abstractmethod
    def sees_drift(self, result: Any) -> bool | None:
        """What a check's result says; None: it says nothing of drift."""


def number_names(table: pa.Table) -> list[str]:
    return [field.name for field in table.schema if kinds.is_floating(field.type)]


def category_names(table: pa.Table) -> list[str]:
    return [field.name for field in table.schema if kinds.is_string(field.type)]
