"""The tree's own rules, beside those that import-linter holds."""

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import sql
from expectations.catalogue import LAYERS, catalogue

ROOT = Path(__file__).parents[1]
TOP = ("flows", "tasks", "models", "sql", "expectations", "tests", "deployments")
SOURCES = [
    path
    for top in ("flows", "tasks", "models", "sql", "expectations")
    for path in sorted((ROOT / top).rglob("*.py"))
]


def test_no_installed_distribution_provides_our_top_names() -> None:
    ours = {"flows", "tasks", "models", "sql", "expectations"}
    providers = {name: set(packages_distributions().get(name, [])) - {"nightrank"} for name in ours}
    assert not {name: found for name, found in providers.items() if found}


def test_stems_of_flows_name_nothing_else() -> None:
    stems = [path.stem for path in (ROOT / "flows").iterdir() if path.stem[0] != "_"]
    taken = {*TOP, *packages_distributions(), *sys.stdlib_module_names}
    assert len(set(stems)) == len(stems)
    assert not set(stems) & taken


def test_flows_hold_no_class() -> None:
    for path in (ROOT / "flows").rglob("*.py"):
        assert not [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ClassDef)]


def test_only_steps_gpu_doctor_and_what_speaks_to_a_server_know_prefect_among_tasks() -> None:
    knowing = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for name in _imported(path)
        if name.split(".")[0] == "prefect"
    }
    assert knowing == {
        "flows/backfill.py",
        "flows/commands/backfills.py",
        "flows/commands/nights.py",
        "flows/housekeeping_weekly.py",
        "flows/ingest_hourly.py",
        "flows/nightly.py",
        "tasks/doctor/orchestration.py",
        "tasks/gpu.py",
        "tasks/operate/applying.py",  # what a server is told
        "tasks/operate/automations.py",
        "tasks/operate/calling.py",
        "tasks/operate/mailing.py",
        "tasks/operate/runs.py",  # what a server knows of runs in progress
        "tasks/steps.py",
    }


def test_models_import_torch_and_numpy_only_but_for_the_solver_of_ials() -> None:
    allowed = {"torch", "numpy", "models", *sys.stdlib_module_names}
    solver = {"ials.py": {"implicit", "scipy", "threadpoolctl"}}
    for path in (ROOT / "models").glob("*.py"):
        imported = {name.split(".")[0] for name in _imported(path)}
        assert imported <= allowed | solver.get(path.name, set()), path


def test_only_the_sample_shop_names_the_truth_folder() -> None:
    named = [
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.strip("/") == "truth"
    ]
    assert all(path.startswith("tasks/sample/") for path in named), named


def test_nothing_pickles() -> None:
    for path in SOURCES:
        assert not {"pickle", "cloudpickle", "joblib"} & set(_imported(path)), path
        assert "torch.load" not in path.read_text(), path


@pytest.mark.parametrize("name", [t.name for t in catalogue().values()])
def test_a_table_lies_in_a_known_layer_and_names_its_columns_once(name: str) -> None:
    table = catalogue()[name]
    assert table.layer in LAYERS
    assert len(set(table.column_names)) == len(table.columns)
    assert {*table.key, *table.sort_by, *table.partition_by} <= {*table.column_names, "ds"}
    assert table.grain
    assert not table.grain.endswith(".")


def test_every_select_has_a_header_and_is_one_statement() -> None:
    for path in sql.ROOT.rglob("*.sql"):
        text = path.read_text()
        assert text.startswith("-- grain: "), path
        assert "\n-- reads: " in text, path
        code = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
        assert ";" not in "".join(code), path


def test_every_made_table_has_its_select() -> None:
    by_hand = {
        "features.examination",
        "train.metrics",
        "train.epochs",
        "train.policy_values",
        "train.propensity_diagnostics",
        "serve.candidates",
        "serve.causal_edges",
        "serve.trials",
        "serve.comparisons",
        "serve.verdicts",
        "serve.publications",
        "serve.holds",
        "serve.current",
    }
    for name, table in catalogue().items():
        if table.layer != "ops" and name not in by_hand:
            assert sql.read_table(name)


def test_help_imports_neither_prefect_nor_great_expectations_nor_torch() -> None:
    program = (
        "import sys\nfrom flows.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('prefect', 'great_expectations', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "[]"


def _imported(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.append(node.module)
    return found
