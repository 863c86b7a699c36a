"""Pseudonyms at the door: what they are, where the key may stand, and that it cannot change."""

from pathlib import Path
from typing import Any

import pytest

from expectations.catalogue import catalogue
from tasks.errors import SettingsError
from tasks.ingest.pseudonyms import KEY_VARIABLE, pseudonym
from tasks.settings import Privacy
from tasks.shop import Shop
from tests.tasks.ingest.conftest import (
    NOON,
    NewShop,
    TinyShop,
    csv_events,
    event,
    jsonl_events,
    lines,
)

KEY = "a long and random text"


class PrivateShop(TinyShop):
    """The same with pseudonyms."""

    @property
    def shop(self) -> Shop:
        shop = super().shop
        settings = shop.settings.model_copy(update={"privacy": Privacy(pseudonymise=True)})
        return Shop(settings, shop.mapping)


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrivateShop:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    users = {"files": "users/*.csv", "format": "csv", "columns": {"user_id": "u"}}
    return PrivateShop(tmp_path, {"events": jsonl_events(), "users": users})


def land(tiny: TinyShop) -> None:
    tiny.land("events/a.jsonl", lines(event(1), event(2, id=None, u="Zoë"), event(3, b="nothing")))
    tiny.land("users/a.csv", "u\nanna\nZoë\n\n")


def test_ids_are_keyed_hashes_in_every_table(private: PrivateShop) -> None:
    land(private)
    private.ingest()
    expected = sorted(pseudonym(KEY.encode(), user) for user in ("anna", "Zoë"))
    assert [row[0] for row in private.query("SELECT user_id FROM clean.users ORDER BY 1")] == (
        expected
    )
    assert sorted(row[0] for row in private.events("user_id")) == expected


@pytest.mark.parametrize("key", ["x" * 16, "k" * 64, "k" * 65, "clé" * 30])
def test_keys_of_every_length_are_hmac(
    private: PrivateShop, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    land(private)
    private.ingest()
    assert (pseudonym(key.encode(), "anna"),) in private.events("user_id")


def test_no_id_and_no_key_is_written_anywhere(private: PrivateShop) -> None:
    land(private)
    private.ingest()
    assert private.query("SELECT line, raw FROM ops.quarantine") == [(3, None)]
    for path in (private.root / "lake").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert all(word not in content for word in (b"anna", b"Zo\xc3\xab", KEY.encode())), path


@pytest.mark.parametrize(
    ("key", "problem"),
    [(None, "no key"), ("short", "only a short key")],
)
def test_a_key_must_be_given(
    private: PrivateShop, monkeypatch: pytest.MonkeyPatch, key: str | None, problem: str
) -> None:
    land(private)
    monkeypatch.delenv(KEY_VARIABLE)
    if key is not None:
        monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(SettingsError, match=problem):
        private.ingest()
    assert private.events() == []


def test_another_key_is_refused(private: PrivateShop, monkeypatch: pytest.MonkeyPatch) -> None:
    land(private)
    private.ingest()
    before = private.tables()
    private.land("events/b.jsonl", lines(event(7)))
    monkeypatch.setenv(KEY_VARIABLE, "another long and random text")
    with pytest.raises(SettingsError, match="a key cannot be rotated") as caught:
        private.ingest()
    assert "another long" not in str(caught.value)
    assert private.tables() == before


def test_a_lake_is_with_pseudonyms_or_without(
    new_shop: NewShop, private: PrivateShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = TinyShop(private.root, private.sources)
    land(private)
    private.ingest()
    private.land("events/b.jsonl", lines(event(7)))
    with pytest.raises(SettingsError, match="this lake holds pseudonyms"):
        plain.ingest()
    other = new_shop()
    other.land("events/a.jsonl", lines(event(1)))
    other.ingest()
    other.land("events/b.jsonl", lines(event(7)))
    with pytest.raises(SettingsError, match="this lake holds ids as they came"):
        PrivateShop(other.root, other.sources).ingest()


def _personal() -> list[tuple[str, str]]:
    return [
        (table.name, column.name)
        for table in catalogue().values()
        for column in table.columns
        if column.is_pii
    ]


def test_personal_data_stand_in_clean_and_ops_only() -> None:
    assert _personal()
    assert {name.split(".")[0] for name, _ in _personal()} <= {"clean", "ops"}


def test_no_later_select_and_no_report_names_personal_data() -> None:
    words = {column for _, column in _personal()}
    root = Path(__file__).parents[3] / "sql"
    texts: dict[str, Any] = {
        path.name: path.read_text()
        for folder in ("2_features", "3_train", "4_serve", "queries")
        for path in (root / folder).glob("*.sql")
    }
    found = {
        (name, word)
        for name, text in texts.items()
        for word in words
        for line in text.splitlines()
        if not line.startswith("--") and word in line.replace(",", " ").replace(".", " ").split()
    }
    assert found == set()


def test_no_id_is_kept_as_the_name_of_a_column(private: PrivateShop) -> None:
    """A CSV file without its header line has ids for column names."""
    private.sources = {"events": csv_events()}
    private.land("events/a.csv", f"SECRETanna,tea,{NOON}\nbob,tea,{NOON}\n")
    private.land("events/b.csv", f"SECRETanna,SECRETanna,{NOON}\n")
    private.land("events/c.csv", f"u,i,t\nbob,tea,{NOON}\n")
    private.ingest()
    for name in ("ops.columns", "ops.files", "ops.quarantine"):
        assert "SECRET" not in str(private.query(f"SELECT * FROM {name}")), name
