"""The ingest stage: new files into clean tables; items and users derived where no file is."""

from collections.abc import Iterator, Sequence
from datetime import date

import sql
from tasks.errors import SourceError
from tasks.ingest.deliveries import OCCURRENCES, SNAPSHOTS, Delivery, new_deliveries
from tasks.ingest.landing import Arrival
from tasks.ingest.load import ingest_files
from tasks.ingest.mend import finish_withdrawals
from tasks.lake.session import session
from tasks.lake.tables import Lake
from tasks.places import Place
from tasks.records import TableVersion
from tasks.shop import Parameters, Shop
from tasks.transform import build_snapshot


def ingest(shop: Shop, arrival: Arrival, run_id: str) -> tuple[date, list[TableVersion]]:
    """Bring what has arrived into the clean tables; returns the night's date and what was written.

    Raises SourceError where no record has a date or a contract stops, SettingsError where the key
    of the pseudonyms is another, StorageError where the lake fails.
    """
    lake, compute, mapping, landing = shop.lake, shop.settings.compute, shop.mapping, shop.landing
    finish_withdrawals(shop, run_id)
    with session(lake, compute) as s:
        found = new_deliveries(s, landing, mapping, arrival.files)
    written: list[TableVersion] = []
    ds = arrival.ds
    for datasets in (OCCURRENCES, SNAPSHOTS):
        for dataset, files in _batches(found, datasets, compute.batch_mb):
            written += ingest_files(shop, dataset, files, run_id=run_id, night=ds)
        ds = ds or _newest_day(lake, landing)
    assert ds is not None
    written += _derive(shop, arrival, ds)
    return ds, written


def _batches(
    found: Sequence[Delivery], datasets: Sequence[str], batch_mb: int
) -> Iterator[tuple[str, list[Delivery]]]:
    """The deliveries of each dataset in order of delivery, in batches of some bytes."""
    for dataset in datasets:
        batch: list[Delivery] = []
        n_bytes = 0
        for delivery in (d for d in found if d.dataset == dataset):
            batch.append(delivery)
            n_bytes += delivery.file.n_bytes
            if n_bytes >= batch_mb * 2**20:
                yield dataset, batch
                batch, n_bytes = [], 0
        if batch:
            yield dataset, batch


def _newest_day(lake: Lake, landing: Place) -> date:
    days = lake.pin("clean.events").days()
    if not days:
        raise SourceError(
            "no event could be read from any file: there is no date to close",
            where=str(landing),
            unchanged="what was served stays served",
            fix="SELECT reason, count(*) FROM ops.quarantine GROUP BY ALL, then mend the mapping",
        )
    return max(days)


def _derive(shop: Shop, arrival: Arrival, ds: date) -> list[TableVersion]:
    landed = {file.dataset for file in arrival.files}
    params: Parameters = {"ds": ds}
    written = []
    for dataset in SNAPSHOTS:
        if dataset not in landed:
            _refuse_vanished(shop, dataset, ds)
            with session(shop.lake, shop.settings.compute) as s:
                select = sql.read(f"1_clean/{dataset}_derived")
                written.append(build_snapshot(s, f"clean.{dataset}", params, select=select))
    return written


def _refuse_vanished(shop: Shop, dataset: str, ds: date) -> None:
    """An optional source that delivered up to `ds` and is gone would make its items return."""
    source = shop.mapping.sources().get(dataset)
    is_dated = source is not None and source.arrived.path is not None
    with session(shop.lake, shop.settings.compute) as s:
        s.read("ops.files")
        n_files = s.value(
            "SELECT count(*) FROM ops.files "
            "WHERE dataset = $dataset AND state = 'ingested' AND ds <= $ds",
            {"dataset": dataset, "ds": ds if is_dated else date.max},
        )
    if n_files:
        raise SourceError(
            f"the source {dataset} has vanished: {n_files} file(s) were ingested, none is left",
            where=str(shop.landing),
            unchanged="nothing is published; what was served stays served",
            fix="deliver its newest file again",
        )
