"""Numbers as people read them."""

from datetime import UTC, datetime

import pytest

from tasks.report import words


@pytest.mark.parametrize(("value", "said"), [(None, "–"), (0, "0"), (1234567, "1,234,567")])
def test_counts(value: int | None, said: str) -> None:
    assert words.count(value) == said


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [(1, 8, "12.5 %"), (0, 8, "0 %"), (8, 8, "100 %"), (1, 0, "–"), (None, 1, "–")],
)
def test_shares(part: float | None, whole: float, said: str) -> None:
    assert words.share(part, whole) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "–"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 1024**4, "3.0 TiB")],
)
def test_sizes(value: float | None, said: str) -> None:
    assert words.size(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "–"), (0.254, "0.25 s"), (12.34, "12.3 s"), (185, "3 min 05 s")],
)
def test_seconds(value: float | None, said: str) -> None:
    assert words.seconds(value) == said


def test_moments_are_in_utc() -> None:
    assert words.moment(datetime(2026, 1, 5, 7, 8, 9, tzinfo=UTC)) == "2026-01-05 07:08:09 UTC"
    assert words.moment(None) == "–"


@pytest.mark.parametrize(
    ("text", "said"), [(None, "–"), ("", "–"), ("short", "short"), ("a" * 20, "a" * 12 + "…")]
)
def test_hashes_are_cut(text: str | None, said: str) -> None:
    assert words.brief(text) == said
