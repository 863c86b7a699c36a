"""A plain run of the benchmark makes what is in its file, and nothing that a reader must guess."""

from tests.benchmarks.causalrec_quality import RESULTS, SETS, _plan, key
from tests.benchmarks.sasrec_quality import measured


def test_every_cell_of_the_file_is_one_of_a_plain_run() -> None:
    planned = {
        key(name, arm, seed) for name in SETS for arm, seeds in _plan(name) for seed in seeds
    }
    assert set(measured(RESULTS)) <= planned
