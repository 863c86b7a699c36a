from expectations.catalogue import stored
from tasks.checks import GROUPS
from tasks.validate import suite_names


def test_every_stored_table_is_checked_once_a_night() -> None:
    checked = [name for group in GROUPS.values() for name in group]
    assert sorted(checked) == sorted(suite_names()) == sorted(stored())
