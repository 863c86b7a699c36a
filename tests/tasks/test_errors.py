import pickle

from tasks.errors import HeldError, NightrankError, SettingsError, UsageError, on_one_line


def test_an_error_says_what_where_what_is_unchanged_and_what_to_do() -> None:
    text = str(UsageError("no such day", where="--ds", unchanged="nothing", fix="name another"))
    assert [part in text for part in ("no such day", "--ds", "nothing", "name another")] == [
        True
    ] * 4


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(HeldError("a", where="b", unchanged="c", fix="d")))
    assert isinstance(error, HeldError)
    assert (error.what, error.where, error.unchanged, error.fix) == ("a", "b", "c", "d")


def test_exit_codes() -> None:
    assert (NightrankError.exit_code, SettingsError.exit_code, HeldError.exit_code) == (1, 2, 3)


def test_what_an_error_says_fits_on_one_line() -> None:
    error = ValueError("  no\n\tsuch  day\n")
    assert (on_one_line(error), on_one_line(error, 8)) == ("no such day", "no ... y")
    assert len(on_one_line(ValueError("x" * 501))) == 500
    assert on_one_line(ValueError("x" * 500)) == "x" * 500


def test_a_tree_of_causes_is_told_to_the_last() -> None:
    tree = (
        "Generic error\n   \x1b[31m↳\x1b[0m Unable to copy\n     \x1b[31m↳\x1b[0m No space left\n"
    )
    assert on_one_line(OSError(tree)) == "Generic error: Unable to copy: No space left"


def test_of_a_long_tree_the_middle_goes() -> None:
    tree = f"Generic error\n ↳ {'of a file ' * 100}\n ↳ No space left"
    told = on_one_line(OSError(tree))
    assert len(told) == 500
    assert told.startswith("Generic error: of a file")
    assert told.endswith("of a file: No space left")


def test_colons_that_an_error_has_by_itself_stay() -> None:
    assert on_one_line(ValueError("no row at 07 : 30 of [1 : 2]")) == "no row at 07 : 30 of [1 : 2]"
