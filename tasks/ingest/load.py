"""Read a batch of deliveries into one clean table, its quarantine and its accounting.

The order of writes makes a kill harmless: clean rows, quarantine, then the accounting, which alone
makes a file known. A file that is not known yet is read again, and its rows are made anew.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from tasks.ingest.accounts import (
    account,
    note_superseded,
    write_accounts,
    write_columns,
    write_quarantine,
)
from tasks.ingest.columns import hold_to_contract, if_new, see_columns, step
from tasks.ingest.deliveries import Delivery
from tasks.ingest.hand import at_hand
from tasks.ingest.merge import write_clean
from tasks.ingest.pseudonyms import hold_to_key, key_from_environment, key_id, use_key
from tasks.ingest.quarantine import find_misfits
from tasks.ingest.readers import How
from tasks.ingest.stage import Batch, stage, stage_again
from tasks.lake.session import Session, session
from tasks.records import TableVersion
from tasks.shop import Shop

READING_MIB = 512  # a reader keeps all of a file that fits; it needs no more to be as fast


def ingest_files(
    shop: Shop, dataset: str, files: Sequence[Delivery], *, run_id: str, night: date | None
) -> list[TableVersion]:
    """Read some files of one dataset, as `ingest` does."""
    key = key_from_environment() if shop.settings.privacy.pseudonymise else None
    source = shop.mapping.sources()[dataset]
    how = How(pseudonymises=key is not None, keeps_extra=if_new(dataset, source) == "evolve")
    with (
        session(shop.lake, shop.settings.compute) as s,
        at_hand(shop.landing, [each.file for each in files if each.repeats is None]) as landing,
    ):
        hold_to_key(s, key)
        batch = Batch(dataset, source, landing, files, night, how)
        return load_batch(s, batch, run_id=run_id, key=key)


def load_batch(s: Session, batch: Batch, *, run_id: str, key: bytes | None) -> list[TableVersion]:
    """Ingest a batch. Raises SourceError where the contract stops, StorageError, ConflictError."""
    if key is not None:
        use_key(s, key)
    batch.how = replace(batch.how, step=step(batch))
    with s.at_most(READING_MIB):
        stage(s, batch)
    see_columns(s, batch)
    absent = hold_to_contract(s, batch)
    if absent:
        stage_again(batch, absent)
    quarantined = find_misfits(s, batch)
    touched, written = write_clean(s, batch.dataset, batch.fresh)
    written.append(write_quarantine(s, batch))
    written.append(write_columns(s, batch))
    accounts = account(s, batch.dataset, touched, quarantined)
    written += note_superseded(s, batch.dataset, touched, batch.files)
    return [*written, *write_accounts(s, batch, accounts, run_id, key_id(key))]
