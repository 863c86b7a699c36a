"""Estimates against the sample shop's truth: errors in the default shop, intervals in small worlds.

Clicks; three stated policies; the first position and all positions. Writes
results/known_truth.json, world by world: `make bench`. A run that was stopped goes on where it was;
after a whole one the next starts over. --quick measures the first world of each kind anew, tells it
beside what is in the file, and writes nothing.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.estimate.values import Estimator
from tasks.sample import ShopSettings
from tests.benchmarks import origins
from tests.scenarios.truths import SMALL, World, build, findings, liking

RESULTS = Path(__file__).parent / "results" / "known_truth.json"
ESTIMATORS: tuple[Estimator, ...] = ("naive", "ips", "snips", "dr")
CLAIMED: tuple[Estimator, ...] = ("snips", "dr")
COVERED: tuple[Estimator, ...] = ("ips", "snips", "dr")
# Kind of world, its settings, how many seeds.
PLAN = {
    "default shop": (ShopSettings(), 10),
    "small world": (replace(SMALL, n_users=1000), 100),
}
Figures = dict[str, Any]


def measure(world: World) -> Figures:
    """Of one world every truth; of each estimate error, standard error, and if it is covered."""
    found = liking(world)
    figures: Figures = {"liking": {name: _short(value) for name, value in vars(found).items()}}
    for each in findings(world):
        figures[f"{each.policy}, {each.slots}"] = {
            "truth": _short(each.truth),
            "verdict": each.verdict,
            **{
                name: [
                    _short(each.error(name)),
                    _short(each.values[name].se),
                    each.is_covered(name),
                ]
                for name in ESTIMATORS
            },
        }
    return figures


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _cases(figures: Figures) -> Iterator[tuple[str, Figures]]:
    return ((name, each) for name, each in figures.items() if name != "liking")


def summary(worlds: dict[str, Figures]) -> Figures:
    """What is claimed of one kind of world: errors, and how often the intervals cover."""
    cases = [(name, case) for each in worlds.values() for name, case in _cases(each)]
    far = [case for _, case in cases if abs(case["naive"][0]) >= 0.05]
    likings = [each["liking"] for each in worlds.values()]
    return {
        "worlds": len(worlds),
        "estimates": len(cases),
        "naive off by 0.05 or more": len(far),
        "largest error of those": {
            name: max(abs(case[name][0]) for case in far) for name in CLAIMED
        },
        "liking, least error of naive": min(_off(each, "naive") for each in likings),
        "liking, largest error of weighted": max(_off(each, "weighted") for each in likings),
        "coverage": {name: _coverage(name, cases) for name in COVERED},
    }


def _coverage(name: Estimator, cases: list[tuple[str, Figures]]) -> dict[str, float]:
    """How often the truth is inside the interval of 95 %, by policy and slots."""
    hits: dict[str, list[bool]] = {}
    for key, case in cases:
        hits.setdefault(key, []).append(case[name][2])
    return {key: round(sum(each) / len(each), 3) for key, each in hits.items()}


def _off(likings: Figures, name: str) -> float:
    return round(abs(float(likings[name]) - float(likings["uniform"])), 5)


def _begun() -> Figures:
    """What an unfinished run of the same plan has found."""
    plan = {kind: {**s.as_json(), "seed": f"1 to {n}"} for kind, (s, n) in PLAN.items()}
    fresh: Figures = {"settings": plan, "worlds": {kind: {} for kind in PLAN}}
    if not RESULTS.exists():
        return fresh
    found: Figures = json.loads(RESULTS.read_text())
    is_whole = all(len(found["worlds"][kind]) == n for kind, (_, n) in PLAN.items())
    return fresh if is_whole or found["settings"] != json.loads(json.dumps(plan)) else found


def _write(found: Figures) -> None:
    """A world is one line."""
    summaries = {kind: summary(worlds) for kind, worlds in found["worlds"].items() if worlds}
    lines = {
        kind: [f'      "{seed}": {json.dumps(each)}' for seed, each in worlds.items()]
        for kind, worlds in found["worlds"].items()
    }
    kinds = [f'    "{kind}": {{\n' + ",\n".join(each) + "\n    }" for kind, each in lines.items()]
    origins.keep(
        RESULTS,
        f'{{\n  "summary": {json.dumps(summaries, indent=2)},\n'
        f'  "settings": {json.dumps(found["settings"])},\n'
        '  "worlds": {\n' + ",\n".join(kinds) + "\n  }\n}\n",
    )


def of_seed(settings: ShopSettings, seed: int) -> Figures:
    """The figures of one world."""
    with tempfile.TemporaryDirectory(prefix="nightrank-bench-") as folder:
        return measure(build(replace(settings, seed=seed), Path(folder)))


def again() -> None:
    """The first world of each kind anew, beside what the file holds."""
    kept: Figures = json.loads(RESULTS.read_text())["worlds"] if RESULTS.exists() else {}
    for kind, (settings, _) in PLAN.items():
        known = kept.get(kind, {}).get("1", {})
        for case, figures in of_seed(settings, 1).items():
            print(f"{kind} 1, {case}, now: {figures}", flush=True)
            print(f"{kind} 1, {case}, in the file: {known.get(case)}", flush=True)


def main() -> None:
    """Measure what is not measured yet, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="a world of each kind; not written")
    if parser.parse_args().quick:
        again()
        return
    found = _begun()
    for kind, (settings, n_seeds) in PLAN.items():
        worlds = found["worlds"][kind]
        for seed in range(1, n_seeds + 1):
            if str(seed) in worlds:
                continue
            started = time.perf_counter()
            worlds[str(seed)] = of_seed(settings, seed)
            _write(found)
            origins.note("known_truth")
            seconds = time.perf_counter() - started
            left = (n_seeds - len(worlds)) * seconds / 60
            print(f"{kind} {seed} of {n_seeds}: {seconds:.0f} s, {left:.0f} min left", flush=True)
    print(json.dumps({kind: summary(each) for kind, each in found["worlds"].items()}, indent=2))


if __name__ == "__main__":
    main()
