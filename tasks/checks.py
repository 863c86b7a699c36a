"""Check the night's partitions: a small file of views for the suites, verdicts into ops.checks."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import sql
from expectations.catalogue import stored
from tasks.errors import QualityError
from tasks.lake.literals import Value, literal
from tasks.lake.session import write_views
from tasks.lake.tables import Lake, Pinned, scan
from tasks.records import CheckResult, LandedFile
from tasks.scratch import scratch
from tasks.shop import Shop
from tasks.validate import validate

GROUPS: dict[str, tuple[str, ...]] = {
    "clean": (
        "ops.files",
        "ops.quarantine",
        "ops.row_moves",
        "ops.columns",
        "clean.events",
        "clean.impressions",
        "clean.items",
        "clean.users",
    ),
    "features": (
        "features.behaviours_daily",
        "features.traffic_daily",
        "features.popularity_daily",
        "features.user_history_daily",
        "features.feedback_daily",
        "features.exposure_daily",
        "features.impression_propensities",
        "features.examination",
        "features.item_propensities",
        "train.examples",
        "train.holdout",
        "serve.active_users",
        "serve.eligible_items",
        "serve.seen_items",
    ),
    "serve": (
        "train.metrics",
        "train.epochs",
        "train.policy_values",
        "train.propensity_diagnostics",
        "serve.candidates",
        "serve.causal_edges",
        "serve.trials",
        "serve.recommendations",
        "serve.shortfalls",
        "serve.comparisons",
        "serve.verdicts",
        "serve.publications",
        "serve.holds",
        "ops.models",
        "ops.builds",
        "ops.checks",
        "ops.nights",
        "ops.leases",
        "ops.stages",
    ),
}
_COMPARED = 15  # delivery dates: sources may deliver fortnightly
_CATALOGUES = ("clean.items", "clean.users")
_IMPRESSIONS = (
    "clean.impressions",
    "features.feedback_daily",
    "features.exposure_daily",
    "features.impression_propensities",
    "features.examination",
    "train.policy_values",
    "train.propensity_diagnostics",
)


def check(
    shop: Shop,
    ds: date,
    group: str,
    run_id: str,
    release: str | None = None,
    files: Sequence[LandedFile] = (),
) -> list[CheckResult]:
    """Run the suites of a group; every verdict is kept. `files` are those that the night found.

    Raises QualityError when a critical check fails.
    """
    tables = [
        name for name in GROUPS[group] if shop.mapping.impressions or name not in _IMPRESSIONS
    ]
    with scratch("checks") as folder:
        database = folder / "checked.duckdb"
        views = _views(shop, ds, release) | _views_of_files(shop, ds, run_id, files)
        write_views(database, views)
        limit = shop.settings.compute.memory_limit
        results = validate(database, tables, memory_limit=limit)
    _keep(shop.lake, ds, run_id, results)
    _stop(results, ds, _refused(shop.lake, ds))
    return results


def _refused(lake: Lake, ds: date) -> list[str]:
    rows = lake.rows(lake.pin("ops.files"), {"ds": ds}).to_pylist()
    return [f"{row['path']}: {row['reason']}" for row in rows if row["state"] == "refused"]


def _views(shop: Shop, ds: date, release: str | None) -> dict[str, str]:
    """The night's partitions as `layer.table`, all up to the night as `upto.layer_table`."""
    views = {"night.facts": _facts(shop, ds)}
    for name in stored():
        pinned = shop.lake.pin(name)
        views[name] = scan(pinned.table, _nights_files(shop, pinned, ds, release))
        files = pinned.files(lambda found: found.get("ds", "") <= str(ds))
        views[f"upto.{name.replace('.', '_')}"] = scan(pinned.table, files)
    views["upto.ops_columns"] = _recent_columns(shop.lake.pin("ops.columns"), ds)
    views["upto.ops_drift"] = sql.read_table("ops.drift").replace("ops.columns", "upto.ops_columns")
    return views


def _recent_columns(pinned: Pinned, ds: date) -> str:
    """The columns of the night's files and of the newest deliveries before, to compare them."""
    recent = {str(day) for day in sorted(day for day in pinned.days() if day <= ds)[-_COMPARED:]}
    return scan(pinned.table, pinned.files(lambda found: found["ds"] in recent))


def _nights_files(shop: Shop, pinned: Pinned, ds: date, release: str | None) -> list[str]:
    table = pinned.table
    wanted = {"ds": str(ds)}
    if table.name in _CATALOGUES and not _is_due_daily(shop, table.short_name):
        days = sorted(pinned.days())
        newest = max((day for day in days if day <= ds), default=days[0] if days else ds)
        wanted = {"ds": str(newest)}
    if release is not None and "release_id" in table.partition_by:
        wanted["release_id"] = release
    return pinned.files(lambda found: all(found.get(k, v) == v for k, v in wanted.items()))


def _is_due_daily(shop: Shop, dataset: str) -> bool:
    """Whether the shop must deliver a snapshot of every date; else the newest one counts."""
    source = shop.mapping.sources().get(dataset)
    return source is not None and source.arrived.path is not None and not source.optional


def _views_of_files(
    shop: Shop, ds: date, run_id: str, files: Sequence[LandedFile]
) -> dict[str, str]:
    """The night's files: those of its date or of none, and what this run read; the newest each."""
    paths = [file.path for file in files if file.delivered in (None, ds)]
    landed, quarantine = (shop.lake.pin(name) for name in ("ops.files", "ops.quarantine"))
    nights = (
        f"SELECT * FROM ({scan(landed.table, landed.files())}) "
        f"WHERE list_contains({literal(paths)}::VARCHAR[], path) OR run_id = {literal(run_id)} "
        "QUALIFY row_number() OVER "
        "(PARTITION BY dataset, path ORDER BY ingested_at DESC, file_id) = 1"
    )
    misfits = (
        f"SELECT misfits.* FROM ({scan(quarantine.table, quarantine.files())}) AS misfits "
        f"SEMI JOIN ({nights}) AS nights USING (file_id)"
    )
    return {"ops.files": nights, "ops.quarantine": misfits}


def _facts(shop: Shop, ds: date) -> str:
    mapping, settings = shop.mapping, shop.settings
    facts: dict[str, Value] = {
        "ds": ds,
        "k": settings.publish.k,
        "min_day_share": settings.checks.min_day_share,
        "min_catalogue_share": settings.checks.min_catalogue_share,
        "seen": [] if mapping.behaviours.repurchase else list(mapping.behaviours.seen),
        "has_impressions": mapping.impressions is not None,
        "has_items": mapping.items is not None,
        "has_users": mapping.users is not None,
        "history_days": mapping.behaviours.history_days,
    }
    return "SELECT " + ", ".join(f"{literal(value)} AS {name}" for name, value in facts.items())


def _keep(lake: Lake, ds: date, run_id: str, results: Sequence[CheckResult]) -> None:
    now = datetime.now(UTC)
    rows = [{"run_id": run_id, "checked_at": now, "ds": ds, **vars(result)} for result in results]
    lake.append("ops.checks", {"ds": ds}, rows)


def _stop(results: Sequence[CheckResult], ds: date, refused: Sequence[str]) -> None:
    failed = [result for result in results if result.stops_the_night]
    if not failed:
        return
    first = failed[0]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    raise QualityError(
        f"a critical check failed: {first.table_name}: {first.what}; "
        f"{first.observed or 'it does not hold'}{more}",
        where="; ".join(refused) if "refused" in first.what else f"{first.table_name}, ds = {ds}",
        unchanged="nothing is published; what was served stays served",
        fix=f"nightrank report --ds {ds} shows every check; mend the data, run it again",
    )
