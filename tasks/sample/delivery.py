"""Which file a line lies in: the day and quarter of its delivery, not of its occurrence."""

import gzip
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import polars as pl

from tasks.sample.settings import ShopSettings
from tasks.sample.visits import DAY_MS

PARTS = 4
GZIP_LEVEL = 4
FILE_AGAIN = "file_again"


class Delivery:
    """The files of one dataset, day after day; lines for later days wait in memory.

    `dirt` counts lines by (kind, day of delivery); what never arrives within the window counts
    as `<kind>_undelivered` on the day it occurred.
    """

    def __init__(self, settings: ShopSettings, folder: Path, start_ms: int) -> None:
        self.folder = folder
        self.dirt: Counter[tuple[str, int]] = Counter()
        self._days = settings.days
        self._start_ms = start_ms
        self._waiting: defaultdict[int, list[pl.DataFrame]] = defaultdict(list)
        self._files: list[gzip.GzipFile] = []

    def day_folder(self, day: int) -> Path:
        """Where the files of a delivery day lie."""
        return self.folder / f"dt={self._days[day]}"

    @contextmanager
    def open(self, day: int) -> Iterator[None]:
        """Open the files of a day, beginning with what waited for it."""
        self.day_folder(day).mkdir(parents=True)
        with ExitStack() as stack:
            paths = [self.day_folder(day) / f"part-{part}.jsonl.gz" for part in range(PARTS)]
            self._files = [_gzip(stack, path) for path in paths]
            for lines in self._waiting.pop(day, []):
                self._write(day, lines)
            yield

    def add(self, day: int, lines: pl.DataFrame) -> None:
        """Write the lines that are delivered on the open day and keep the rest.

        lines: (line, kind, deliver_ms, occurred_ms).
        """
        since = pl.col("deliver_ms") - self._start_ms
        lines = lines.with_columns(day=since // DAY_MS, part=since % DAY_MS * PARTS // DAY_MS)
        for (when,), some in lines.partition_by("day", as_dict=True, maintain_order=True).items():
            if when == day:
                self._write(day, some)
            elif when < len(self._days):
                self._waiting[when].append(_alone(some))
            else:
                self._count_lost(some)

    def repeat_file(self, day: int, part: int) -> None:
        """Deliver a closed file once more under another name."""
        path = self.day_folder(day) / f"part-{part}.jsonl.gz"
        shutil.copyfile(path, path.with_name(f"part-{part}-again.jsonl.gz"))
        with gzip.open(path) as lines:
            self.dirt[FILE_AGAIN, day] += sum(1 for _ in lines)

    def _write(self, day: int, lines: pl.DataFrame) -> None:
        for part, file in enumerate(self._files):
            text = "".join(line + "\n" for line in lines.filter(part=part)["line"])
            file.write(text.encode())
        for kind, n in lines["kind"].value_counts().iter_rows():
            self.dirt[kind, day] += n

    def _count_lost(self, lines: pl.DataFrame) -> None:
        occurred = (lines["occurred_ms"] - self._start_ms) // DAY_MS
        for kind, day in zip(lines["kind"], occurred, strict=True):
            self.dirt[f"{kind}_undelivered", day] += 1


def _alone(lines: pl.DataFrame) -> pl.DataFrame:
    """A copy that does not keep the text of all other lines of its chunk in memory."""
    return pl.DataFrame(lines.rows(), schema=lines.schema, orient="row")


def _gzip(stack: ExitStack, path: Path) -> gzip.GzipFile:
    raw = stack.enter_context(path.open("wb"))
    packed = gzip.GzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=raw, mtime=0)
    return stack.enter_context(packed)
