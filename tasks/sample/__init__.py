"""The sample shop: a world whose true liking, exposure and dirt are known.

`write_sample` writes raw shop logs into `landing/` and what really happened into `truth/`.
The nightly pipeline reads only `landing/`; evaluations get `truth/` as an explicit argument.
"""

from tasks.sample.settings import DirtRates, ShopSettings
from tasks.sample.shop import SampleCounts, write_sample
from tasks.sample.truth import Truth

__all__ = ["DirtRates", "SampleCounts", "ShopSettings", "Truth", "write_sample"]
