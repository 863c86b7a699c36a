"""Sessions stay within their memory."""

from pathlib import Path

import pytest

from tasks.lake.session import session
from tasks.lake.tables import Lake
from tasks.settings import Compute


@pytest.mark.parametrize(
    ("limit", "mib"), [("1GB", 953), ("512MiB", 512), ("1.5GiB", 1536), ("68MB", 64)]
)
def test_work_can_be_held_to_less_memory_but_not_to_more(
    tmp_path: Path, limit: str, mib: int
) -> None:
    compute = Compute(threads=1, memory_limit=limit)
    assert compute.memory_mib == mib
    with session(Lake(tmp_path), compute) as s:
        of_the_session = s.value("SELECT current_setting('memory_limit')")
        with s.at_most(512):
            held = s.value("SELECT current_setting('memory_limit')")
        assert held == f"{min(mib, 512)}.0 MiB"
        assert s.value("SELECT current_setting('memory_limit')") == of_the_session
