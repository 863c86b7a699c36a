"""CausalRec and its controls on MovieLens-1M and Amazon Beauty. Writes causalrec_quality.json.

Arms, all of one loss, length, width and budget of epochs: SASRec; CausalRec with alpha = 0, which
is SASRec bit by bit; a grid of alphas, of which the validation of the first seed chooses one; that
one, and R shuffled at it, on all seeds; and at it, on the first seed, R by recency, the graph in
other forms, and a search: one setting of graph, boost or loss changed at a time, and SASRec beside
it where that has the setting too. Two arms of the search are on all seeds: two heads, which found
most of all items on the test pairs of Beauty's first seed, and a window of 20 steps, the best there
by validation. Sets, splits and figures are those of sasrec_quality.

Cell by cell: what is in the file with the same settings is not run again. --only, --arm and --seed
narrow it down; --quick measures SASRec and the middle alpha on one seed of Beauty anew, and writes
nothing.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.sasrec_quality import SEEDS, cell, measure, measured
from tests.scenarios.real_data import FOLDER

RESULTS = Path(__file__).parent / "results" / "causalrec_quality.json"
SETS: dict[str, dict[str, Any]] = {
    "amazon-beauty": {"length": 50, "dropout": 0.5, "epochs": 40, "patience": 4},
    "ml-1m": {"length": 50, "batch_size": 32, "learning_rate": 2e-3, "epochs": 30, "patience": 4},
}
ALPHAS = (0.1, 1.0, 10.0)
# of the alpha that was chosen
CONTROLS: dict[str, dict[str, Any]] = {
    "shuffled": {"relation": "shuffled"},
    "recency": {"relation": "recency"},
    "attention": {"effects": "attn"},
    "gram": {"effects": "gram"},
    "free": {"effects": "free"},
    "cluster": {"effects": "cluster"},
}
Arm = tuple[str, dict[str, Any]]  # model, its settings beside those of the set
# what SASRec has too is measured of both
OF_BOTH: dict[str, dict[str, Any]] = {"loss=bce": {"loss": "bce"}, "heads=2": {"heads": 2}}
# window, of the score of direction; floor and threshold make R sharper or flatter; span, the steps
# that the graph is of
OF_GRAPH: dict[str, dict[str, Any]] = {
    "window=0": {"window": 0},
    "window=1": {"window": 1},
    "window=20": {"window": 20},
    "span=10": {"span": 10},
    "threshold=0.3": {"threshold": 0.3},
    "floor=0": {"floor": 0.0},
    "floor=1": {"floor": 1.0},
    "boost=post": {"boost": "post"},
    "sparsity=0.1": {"sparsity": 0.1},
    "unexplained=0.1": {"unexplained": 0.1},
}
ON_ALL_SEEDS = ("heads=2", "window=20")  # of the search: why is said above


def arm_of(name: str, arm: str) -> Arm:
    """Of a name: sasrec, alone or with a setting; alpha=1.0; or others at the alpha chosen."""
    base, _, setting = arm.partition(" ")
    if base == "sasrec":
        return "sasrec", OF_BOTH[setting] if setting else {}
    if arm.startswith("alpha="):
        return "causalrec", {"alpha": float(arm.partition("=")[2])}
    return "causalrec", {"alpha": chosen_alpha(name), **(CONTROLS | OF_BOTH | OF_GRAPH)[arm]}


def chosen_alpha(name: str) -> float:
    """Whose validation NDCG is best on the first seed."""
    known = {
        alpha: cell["chooser_ndcg_20"]
        for alpha in ALPHAS
        if (cell := measured(RESULTS).get(key(name, f"alpha={alpha}", SEEDS[0])))
    }
    if len(known) < len(ALPHAS):
        raise SystemExit("all alphas must be measured on the first seed before one is chosen")
    return max(known, key=lambda alpha: known[alpha])


def key(name: str, arm: str, seed: int) -> str:
    """Of a cell in the file."""
    return f"{name}, {arm}, seed {seed}"


def main() -> None:
    """Run the cells that are not in the file yet, arm by arm."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="two arms, one seed; not written")
    parser.add_argument("--only", help="one data set")
    parser.add_argument("--arm", help="one arm, of all seeds")
    parser.add_argument("--seed", type=int, choices=SEEDS, help="of that arm, one seed")
    asked = parser.parse_args()
    for name in SETS:
        if asked.only not in (None, name):
            continue
        if not (FOLDER / name).is_dir():
            print(f"{name} is not here: NIGHTRANK_DATA names the folder that holds it")
        elif asked.quick:
            _again(name)
        else:
            for arm, seeds in _plan(name, asked.arm, asked.seed):
                model, more = arm_of(name, arm)
                for seed in seeds:
                    cell(RESULTS, f"{name}, {arm}", name, SETS[name] | more, seed, model)


def _plan(
    name: str, wanted: str | None = None, seed: int | None = None
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Arms and their seeds, in an order in which an alpha is chosen before it is needed."""
    first = SEEDS[:1]
    if wanted is not None:
        yield wanted, SEEDS if seed is None else (seed,)
        return
    yield "sasrec", SEEDS
    for alpha in ALPHAS:
        yield f"alpha={alpha}", first
    yield f"alpha={chosen_alpha(name)}", SEEDS
    yield "shuffled", SEEDS
    yield "alpha=0.0", first
    for control in (each for each in CONTROLS if each != "shuffled"):
        yield control, first
    for setting in (*OF_BOTH, *OF_GRAPH):
        seeds = SEEDS if setting in ON_ALL_SEEDS else first
        if setting in OF_BOTH:
            yield f"sasrec {setting}", seeds
        yield setting, seeds


def _again(name: str) -> None:
    if name != "amazon-beauty":
        return
    for arm in ("sasrec", f"alpha={ALPHAS[1]}"):
        model, more = arm_of(name, arm)
        which = key(name, arm, SEEDS[0])
        now = measure(name, SETS[name] | more, SEEDS[0], model)
        print(which, "now:", json.dumps(now), flush=True)
        print(which, "in the file:", json.dumps(measured(RESULTS).get(which)), flush=True)


if __name__ == "__main__":
    main()
