"""How suites are run: what results carry, and what cannot be evaluated, read or made."""

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.errors import SettingsError, StorageError
from tasks.records import CheckResult
from tasks.validate import read_suite, suite_names, validate
from tests.tasks.validate.conftest import UseSuite, change, failed, finding


def test_a_good_night_passes_every_check(good: Path) -> None:
    results = validate(good, suite_names())
    assert failed(results) == []
    expected = [(name, c.check_id) for name in suite_names() for c in read_suite(name)]
    assert [(result.table_name, result.check_id) for result in results] == expected


def test_results_carry_words_and_counts(good: Path) -> None:
    first, *_, last = validate(good, ["clean.events"])
    assert first == CheckResult(
        "clean.events", 1, "the day has events", "ExpectTableRowCountToBeBetween", "critical",
        is_passed=True, observed="12", n_rows=12, n_unexpected=None,
    )  # fmt: skip
    assert (last.n_rows, last.n_unexpected, last.observed) == (12, 0, None)


def test_a_missing_column_fails_its_checks_and_hides_no_other(night: Path) -> None:
    change(night, "ALTER TABLE ops.quarantine DROP COLUMN raw")
    results = validate(night, ["ops.quarantine"])
    assert finding(results, "columns of the catalogue").observed == "missing: raw"
    broken = finding(results, "500 characters")
    assert not broken.is_passed
    assert 'column "raw" not found' in (broken.observed or "")
    assert len(failed(results)) == 2


def test_an_error_shows_no_raw_value(night: Path, use_suite: UseSuite) -> None:
    use_suite("SELECT user_id FROM clean.events WHERE user_id::INTEGER > 0")
    (result,) = validate(night, ["clean.events"])
    assert not result.is_passed
    assert "Conversion Error" in (result.observed or "")
    assert "ann" not in str(result)


def test_a_table_that_cannot_be_read_fails_whole(night: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    change(
        night,
        f"""COPY clean.users TO '{tmp_path}/u.parquet'; DROP VIEW upto.clean_users;
        DROP TABLE clean.users;
        CREATE VIEW clean.users AS FROM read_parquet('{tmp_path}/u.parquet')""",
    )
    (tmp_path / "u.parquet").write_bytes(b"PAR1")
    results = validate(night, ["clean.users", "clean.items"])
    assert {result.table_name for result in failed(results)} == {"clean.users"}
    assert all("Invalid Input" in (result.observed or "") for result in failed(results))
    assert str(tmp_path) not in str(results)


def test_braces_and_parameters_reach_the_query(night: Path, use_suite: UseSuite) -> None:
    use_suite("SELECT ds FROM clean.events WHERE NOT regexp_full_match(user_id, '[a-z]{3}')")
    (result,) = validate(night, ["clean.events"])
    assert result.is_passed
    use_suite(None, type="ExpectTableRowCountToEqual", value={"$PARAMETER": "n"})
    assert not validate(night, ["clean.events"], parameters={"n": 11})[0].is_passed
    assert validate(night, ["clean.events"], parameters={"n": 12})[0].is_passed


def test_an_unknown_type_of_expectation_is_refused(night: Path, use_suite: UseSuite) -> None:
    use_suite(None, type="ExpectMiracles")
    with pytest.raises(SettingsError, match="cannot be made"):
        validate(night, ["clean.events"])


def test_a_database_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot open"):
        validate(tmp_path / "absent.duckdb", ["clean.events"])


def test_nothing_is_printed_and_the_file_is_free_afterwards(
    night: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    validate(night, ["clean.items", "ops.quarantine"])
    assert capfd.readouterr() == ("", "")
    change(night, "DELETE FROM clean.items")


def test_importing_it_imports_neither_great_expectations_nor_sqlalchemy() -> None:
    code = (
        "import sys, tasks.validate; print({'great_expectations', 'sqlalchemy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
