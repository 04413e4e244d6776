"""What reading leaves behind in this process, and what other tests must not find."""

from collections.abc import Iterator

import pikepdf
import pytest


@pytest.fixture(scope="module", autouse=True)
def _limits_of_this_process() -> Iterator[None]:
    """`read.prepare` bounds qpdf for the whole process, which in the daemon is a worker's alone."""
    before = pikepdf.settings.get_qpdf_limits()
    yield
    pikepdf.settings.set_qpdf_limits(**before)  # type: ignore[arg-type]
