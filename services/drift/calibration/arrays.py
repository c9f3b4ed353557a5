"""Arrays as lists in JSON, parsed and checked by Pydantic."""

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator


def _floats(value: Any) -> NDArray[np.float64]:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("not an array of numbers") from None
    if not np.isfinite(array).all():
        raise ValueError("an array holds a number that is not finite")
    return array


Array = Annotated[
    NDArray[np.float64], PlainValidator(_floats), PlainSerializer(lambda array: array.tolist())
]
"""A float array of any shape; only finite numbers."""
