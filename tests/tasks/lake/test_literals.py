from datetime import UTC, date, datetime

import pytest

from tasks.errors import UsageError
from tasks.lake.connection import connect
from tasks.lake.literals import Value, identifier, literal, render


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        0.1,
        1e-300,
        "it's; --",
        "",
        "ü\n",
        date(2026, 1, 5),
        datetime(2026, 1, 5, 1, 2, 3, 4, UTC),
        ["a", "b'"],
        [date(2026, 1, 5)],
    ],
)
def test_a_literal_means_its_value(value: Value) -> None:
    with connect() as con:
        assert con.sql(f"SELECT {literal(value)}").fetchall() == [(value,)]


@pytest.mark.parametrize("name", ["a b", 'say "x"', "select"])
def test_an_identifier_is_quoted(name: str) -> None:
    with connect() as con:
        assert con.sql(f"SELECT 1 AS {identifier(name)}").columns == [name]


def test_every_parameter_is_written_out_and_a_missing_one_is_named() -> None:
    assert render("SELECT $a, $b_c, $a", {"a": 1, "b_c": "x"}) == "SELECT 1, 'x', 1"
    with pytest.raises(UsageError, match=r"\$ghost"):
        render("SELECT $ghost", {"a": 1})
