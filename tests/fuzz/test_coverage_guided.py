"""What Atheris begins with, without Atheris: an example that fails would end it at once."""

import pytest

from tests.fuzz.coverage_guided import readers

READERS = readers()


@pytest.mark.parametrize("name", READERS)
def test_every_example_has_its_outcome(name: str) -> None:
    assert READERS[name].seeds
    for example in READERS[name].seeds:
        READERS[name].read(example)
