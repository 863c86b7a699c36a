"""What the book tells of each benchmark: functions from a result file's JSON to a Chapter."""

from collections.abc import Callable

from tests.benchmarks.chapter import Chapter, Results
from tests.benchmarks.chapters import estimates, models, nights, speed

CHAPTERS: dict[str, Callable[[Results], Chapter]] = {
    each.__name__: each
    for each in (
        *(models.baselines, models.sasrec_quality),
        *(speed.sasrec_speed, speed.recbole_speed, speed.topk, speed.gpu),
        *(models.known_causes, models.causalrec_quality, speed.causalrec_speed),
        *(estimates.known_truth, estimates.propensities, estimates.coat, estimates.gate_power),
        *(nights.night, nights.nights, nights.whole_night, nights.ingest, nights.growth),
        *(nights.backfills, nights.store),
    )
}
