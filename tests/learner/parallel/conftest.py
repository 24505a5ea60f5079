from collections.abc import Iterator

import pytest

from tests.learner.parallel.processes import Pair, pair_of_processes


@pytest.fixture(scope="package")
def pair() -> Iterator[Pair]:
    """Two processes that work together; started once, because each loads torch."""
    with pair_of_processes() as started:
        yield started
