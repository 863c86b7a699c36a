"""CausalRec's graph against the true causes of default sample shops. Writes known_causes.json.

Of each shop, by its seed: the AUPRC of R over all pairs of steps that could be cause and effect
(the last 50 steps of all users), beside that of recency, 1 / (t - j), and of plain attention, that
of a SASRec of the same settings and epochs, by its best block and row, and that of R before any
training, made of what was counted and of weights as they are drawn; the difference with its 95 %
interval (users drawn again, 200 times); and of the 100 strongest edges how many are of types
that follow each other, how many of one category alone (themes), how many neither.

Seed by seed: what is in the file is not run again. --quick measures the first seed anew and writes
nothing; --seeds measures others and writes nothing. --edges tells the edges of the seeds in the
file anew, which needs no training, and leaves the rest of it as it is.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from models.causalrec import CausalRec, CausalRecConfig
from models.sasrec import SASRec
from tasks.sample import ShopSettings
from tests.benchmarks import origins
from tests.scenarios.causes import (
    LENGTH,
    Causes,
    attentions_of,
    auprc,
    causes,
    edge_kinds,
    paired_interval,
    ranked,
    recency,
    trained,
)

RESULTS = Path(__file__).parent / "results" / "known_causes.json"
SEEDS = (1, 2, 3, 4, 5)
EPOCHS = 10
Figures = dict[str, Any]


def measure(seed: int) -> Figures:
    """One shop."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="nightrank-bench-") as root:
        case = causes(ShopSettings(seed=seed), Path(root))
        model = cast(CausalRec, trained(case, "causalrec", EPOCHS).model)
        attentions = attentions_of(cast(SASRec, trained(case, "sasrec", EPOCHS).model))
        ways = {"R": model.relation, "untrained": untrained(case).relation, "recency": recency}
        found = ranked(case, ways | attentions)
        kinds = edge_kinds(case, model)
    best = max(attentions, key=lambda way: auprc(found, way))
    return {
        "pairs": len(found.user),
        "true": int(found.is_cause.sum()),
        "auprc": {way: round(auprc(found, way), 4) for way in ("R", "recency", best)},
        "untrained": round(auprc(found, "untrained"), 4),
        "difference": {
            way: [round(value, 4) for value in paired_interval(found, "R", way)]
            for way in ("recency", best)
        },
        **kinds,
    }


def measure_edges(seed: int) -> dict[str, int]:
    """Of one shop, what is known without training."""
    with tempfile.TemporaryDirectory(prefix="nightrank-bench-") as root:
        case = causes(ShopSettings(seed=seed), Path(root))
        return edge_kinds(case, untrained(case))


def untrained(case: Causes) -> CausalRec:
    """What a training of these histories begins with."""
    torch.manual_seed(1)
    config = CausalRecConfig(length=LENGTH)
    model = CausalRec(config, case.data.n_users, case.data.n_items).eval()
    model.prepare(case.sequences)
    return model


def main() -> None:
    """Measure the seeds that are not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="the first seed, anew; not written")
    parser.add_argument("--seeds", type=int, nargs="+", help="others; not written")
    parser.add_argument("--edges", action="store_true", help="of the seeds in the file, anew")
    asked = parser.parse_args()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if asked.edges:
        for seed in kept:
            kept[seed] |= measure_edges(int(seed))
            print(seed, json.dumps(kept[seed]), flush=True)
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
        return
    for seed in asked.seeds or (SEEDS[:1] if asked.quick else SEEDS):
        if asked.seeds or asked.quick:
            print(seed, "now:", json.dumps(measure(seed)), flush=True)
            print(seed, "in the file:", json.dumps(kept.get(str(seed))), flush=True)
        elif str(seed) not in kept:
            kept[str(seed)] = measure(seed)
            origins.keep(RESULTS, json.dumps(kept, indent=2) + "\n")
            origins.note("known_causes")
            print(seed, json.dumps(kept[str(seed)]), flush=True)
    shares = [each["succ"] for each in kept.values()]
    print("mean edges that follow:", np.mean(shares) if shares else None)


if __name__ == "__main__":
    main()
