"""CausalRec and its controls on MovieLens-1M and Amazon Beauty. Writes causalrec_quality.json.

Arms, all of one loss, length, width and budget of epochs: SASRec (which CausalRec with alpha = 0
is, bit by bit), alpha from a grid of which the validation chooses, R shuffled at that alpha, R by
recency, and the graph in other modes. Sets, splits and figures are those of sasrec_quality.

Cell by cell: what is in the file with the same settings is not run again. --only and --arm narrow
it down; --quick measures SASRec and the middle alpha on one seed of Beauty anew and writes nothing.
"""

import argparse
import json
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


def arm_of(name: str, arm: str) -> Arm:
    """Of a name: sasrec, alpha=1.0, or a control at the alpha that its set has chosen."""
    if arm == "sasrec":
        return "sasrec", {}
    if arm.startswith("alpha="):
        return "causalrec", {"alpha": float(arm.partition("=")[2])}
    return "causalrec", {"alpha": chosen_alpha(name), **CONTROLS[arm]}


def chosen_alpha(name: str) -> float:
    """Whose mean validation NDCG over its measured seeds is best."""
    means = {}
    for alpha in ALPHAS:
        cells = [measured(RESULTS).get(key(name, f"alpha={alpha}", seed)) for seed in SEEDS]
        known = [cell["chooser_ndcg_20"] for cell in cells if cell]
        if known:
            means[alpha] = sum(known) / len(known)
    if not means:
        raise SystemExit("an alpha must be measured before its controls are")
    return max(means, key=lambda alpha: means[alpha])


def key(name: str, arm: str, seed: int) -> str:
    """Of a cell in the file."""
    return f"{name}, {arm}, seed {seed}"


def main() -> None:
    """Run the cells that are not in the file yet, arm by arm."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="two arms, one seed; not written")
    parser.add_argument("--only", help="one data set")
    parser.add_argument("--arm", help="one arm")
    asked = parser.parse_args()
    arms = ["sasrec", *(f"alpha={alpha}" for alpha in ALPHAS), *CONTROLS]
    for name in SETS:
        if asked.only not in (None, name):
            continue
        if not (FOLDER / name).is_dir():
            print(f"{name} is not here: NIGHTRANK_DATA names the folder that holds it")
        elif asked.quick:
            _again(name)
        else:
            # arm by arm: the controls wait until all seeds have chosen the alpha
            for arm in arms if asked.arm is None else [asked.arm]:
                model, more = arm_of(name, arm)
                for seed in SEEDS:
                    cell(RESULTS, f"{name}, {arm}", name, SETS[name] | more, seed, model)


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
