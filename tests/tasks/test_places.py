"""Places of a store do as paths do; and what a store refuses is told with its cause and setting."""

import logging
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.errors import SettingsError, StorageError
from tasks.lake.tables import Lake
from tasks.places import (
    Place,
    StorePath,
    entries,
    known,
    place_of,
    reached_by,
    remove,
    size,
    try_store,
)
from tasks.scratch import making, replacing
from tasks.settings import Settings, check
from tasks.shop import refuse_unfit_lake, settings_of
from tasks.stores import Storage, StoreError, UnreachableError, code_of, refusal_of
from tests.stores import OWNER, READER, STRANGER, Server, proxied, set_keys

FILES = ("events/dt=2026-01-05/a.jsonl", "events/dt=2026-01-06/b.jsonl.gz", "events/_c/d.jsonl")


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, store: Server, tmp_path: Path) -> Place:
    return tmp_path / "f" if request.param == "disk" else store.at(tmp_path.name)


def laid(folder: Place) -> Place:
    for number, name in enumerate(FILES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * (number + 1))
    return folder


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("events/dt=*/*.jsonl*", FILES[:2]),
        ("events/*/*.jsonl", (FILES[0], FILES[2])),
        ("**/*.gz", FILES[1:2]),
        ("events/dt=2026-01-0[6-9]/*", FILES[1:2]),
        ("**/*", FILES),
        ("./events//dt=2026-01-05/*.jsonl", FILES[:1]),
        ("*.jsonl", ()),
        (FILES[0], FILES[:1]),
    ],
)
def test_a_pattern_finds_the_same_files(
    folder: Place, pattern: str, found: tuple[str, ...]
) -> None:
    laid(folder)
    assert {entry.path for entry in entries(folder, pattern)} == set(found)


def test_what_is_there(folder: Place) -> None:
    assert not folder.exists()
    laid(folder)
    assert (folder.exists(), (folder / "events").is_dir()) == (True, True)
    assert ((folder / "event").exists(), (folder / "events").is_file()) == (False, False)
    assert (folder / FILES[1]).read_bytes() == b"xx"
    assert size(folder) == (6, 3)
    assert {each.name for each in (folder / "events").iterdir()} == {
        "dt=2026-01-05",
        "dt=2026-01-06",
        "_c",
    }
    assert (folder / FILES[0]).stat().st_size == 1
    (folder / FILES[0]).unlink()
    (folder / FILES[0]).unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (folder / FILES[0]).read_text()
    remove(folder)
    remove(folder)
    assert not folder.exists()


def test_a_file_comes_into_its_place_whole_or_not_at_all(folder: Place) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "list"
    with replacing(target) as beside:
        beside.write_text("first")
    with pytest.raises(ZeroDivisionError), replacing(target) as beside:
        beside.write_text(f"half{1 // 0}")
    assert target.read_text() == "first"
    with making(folder / "model", last="about") as made:
        (made / "about").write_text("a")
        (made / "weights").write_text("w")
    assert {each.path for each in entries(folder)} == {"list", "model/about", "model/weights"}


def test_a_large_file_is_read_in_pieces(store: Server, tmp_path: Path) -> None:
    place, data = store.at(tmp_path.name, "large"), bytes(range(256)) * 80_000
    place.write_bytes(data)
    assert len(list(place.pieces())) > 1
    place.fetch(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == place.read_bytes() == data


def test_a_read_that_breaks_off_goes_on_and_a_store_that_fails_is_asked_again(
    store: Server, tmp_path: Path
) -> None:
    place, data = store.at(tmp_path.name, "large"), bytes(range(256)) * 80_000
    place.write_bytes(data)
    with proxied(store, breaks="/large", fails="/small") as endpoint:
        there = reached_by(Storage(endpoint=endpoint), place)
        assert isinstance(there, StorePath)
        there.with_name("small").write_bytes(b"small")
        assert there.read_bytes() == data
    reached_by(store.storage, place)
    assert place.with_name("small").read_bytes() == b"small"


def test_what_was_never_put_whole_goes_when_it_is_old(store: Server, tmp_path: Path) -> None:
    folder, now = store.at(tmp_path.name), datetime.now(UTC)
    for name in ("one", "two"):
        asked = {"Bucket": folder.bucket, "Key": (folder / name).key}
        begun = store.storage.files().call_s3("create_multipart_upload", **asked)
        told = {**asked, "UploadId": begun["UploadId"], "PartNumber": 1, "Body": bytes(6 * 2**20)}
        store.storage.files().call_s3("upload_part", **told)
    assert not folder.exists()
    assert (folder / "one").drop_uploads(now + timedelta(hours=1)) == 0  # not below it
    assert folder.drop_uploads(now - timedelta(hours=1)) == 0
    assert folder.drop_uploads(now + timedelta(hours=1)) == 2
    assert folder.drop_uploads(now + timedelta(hours=1)) == 0


def test_a_place_passes_to_another_process_without_its_keys(store: Server) -> None:
    place = store.at("a", "b")
    told = pickle.dumps(place)
    assert not [key for key in OWNER if key.encode() in told]
    assert pickle.loads(told) == place
    assert known(str(place)) == place
    assert OWNER[1] not in repr(place) + repr(store.storage) + str(place)


def test_places_by_name(tmp_path: Path) -> None:
    assert place_of(str(tmp_path)) == tmp_path
    assert str(place_of("s3://shop//a/b/")) == "s3://shop/a/b"
    assert str(place_of("s3://shop").parent) == "s3://shop"
    for wrong in ("s3://", "s3://UPPER/x", "s3://shop/../x", ""):
        with pytest.raises(ValueError, match=r"name|place"):
            place_of(wrong)


def test_a_key_in_a_name_is_refused_and_not_told_again() -> None:
    with pytest.raises(ValueError, match="no key belongs into a name") as caught:
        place_of("s3://the-key:the-secret@shop/lake")
    assert "the-" not in str(caught.value)
    with pytest.raises(SettingsError) as refused:
        settings_of(None, None, None, "s3://the-key:the-secret@shop/lake")
    assert "the-" not in str(refused.value)
    told = {"paths": {"lake": "s3://the-key:the-secret@shop/lake"}}
    with pytest.raises(SettingsError) as refused:
        check(Settings, told, where="x")
    assert "the-" not in str(refused.value)


def test_settings_reach_their_places() -> None:
    told = {"paths": {"lake": "s3://shop/lake"}, "storage": {"endpoint": "https://a.b:9000"}}
    found = check(Settings, told, where="x").paths.lake
    assert isinstance(found, StorePath)
    assert found.reached.endpoint == "https://a.b:9000"
    for wrong in ({"endpoint": "ftp://a"}, {"endpoint": "http://key:word@a"}, {"secret": "a-b"}):
        with pytest.raises(SettingsError):
            check(Settings, {"storage": wrong}, where="x")


def test_a_good_store_is_told_from_one_without_conditional_puts(store: Server) -> None:
    assert abs(try_store(store.at("good"))) < 5
    assert not store.at("good").exists()
    with proxied(store, forgets=True) as endpoint:
        place = reached_by(Storage(endpoint=endpoint), store.at("bad"))
        assert isinstance(place, StorePath)
        with pytest.raises(StoreError, match="no conditional put") as caught:
            try_store(place)
    assert "storage.endpoint" in caught.value.fix


@pytest.mark.parametrize(
    ("keys", "what", "fix"),
    [
        (STRANGER, "does not know the key in AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ((OWNER[0], STRANGER[1]), "refuses the secret in AWS_SECRET_ACCESS_KEY", "storage.secret"),
        (READER, "may not do this", "write"),
    ],
    ids=["no such key", "another secret", "may only read"],
)
def test_a_key_that_is_refused(
    store: Server, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, str], what: str, fix: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys[1])
    with pytest.raises(StoreError) as caught:
        try_store(store.at("refused"))
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert not [key for key in keys if key in str(caught.value)]
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__  # a traceback quotes nothing of the answer


def test_whoever_asks_all_loggers_for_all_hears_no_key(
    store: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    try_store(store.at("logged"))
    assert "s3fs" in {each.name for each in caplog.records}
    assert not [word for word in (*OWNER, "Signature=", "Credential=") if word in caplog.text]


@pytest.mark.parametrize(
    ("answer", "code", "fix"),
    [
        ("An error occurred (ExpiredToken) when calling PutObject", "ExpiredToken", "AWS_SESSION"),
        ("Received redirect without LOCATION", "PermanentRedirect", "storage.region"),
        ("403 Forbidden", "Forbidden", "write and delete"),
        ("no log in s3://gifts/certificates/connected", "", "run the command again"),
        (
            "PUT http://a/403 in 412.5ms: <x y='http://s3/'><Code>NoSuchBucket</Code>",
            "NoSuchBucket",
            "",
        ),
    ],
)
def test_what_a_store_says_is_told_by_its_setting(
    store: Server, answer: str, code: str, fix: str
) -> None:
    assert code_of(OSError(answer)) == code
    assert fix in refusal_of(code, store.storage, "s3://shop/lake").fix


def test_a_token_that_may_be_of_another_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    assert "TOKEN" not in refusal_of("InvalidAccessKeyId", Storage(), "s3://shop").fix
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the-token")
    fix = refusal_of("InvalidAccessKeyId", Storage(), "s3://shop").fix
    assert "unset AWS_SESSION_TOKEN" in fix
    assert "the-token" not in fix


def test_no_bucket_no_key_and_no_answer(store: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="no such bucket"):
        try_store(StorePath("nowhere", "lake", store.storage))
    gone = StorePath("shop", "lake", Storage(endpoint="http://127.0.0.1:9"))
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9 does not answer") as caught:
        try_store(gone)
    assert isinstance(caught.value, StorageError)
    assert pickle.loads(pickle.dumps(caught.value)).fix == caught.value.fix
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SettingsError, match="AWS_SECRET_ACCESS_KEY is not set"):
        try_store(store.at("refused"))


def test_keys_of_other_names(store: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", OWNER[0])
    monkeypatch.setenv("SHOP_SECRET", OWNER[1])
    set_keys(STRANGER)
    named = Storage(endpoint=store.endpoint, key="SHOP_KEY", secret="SHOP_SECRET")
    assert try_store(StorePath("shop", "named", named)) is not None


def test_tables_lie_where_files_do_whatever_the_environment_says_besides(
    store: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """delta-rs looks for more there than the settings name."""
    monkeypatch.setenv("SHOP_KEY", OWNER[0])
    monkeypatch.setenv("SHOP_SECRET", OWNER[1])
    set_keys(STRANGER)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another store")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    named = Storage(
        endpoint=f"{store.endpoint}/", key="SHOP_KEY", secret="SHOP_SECRET", token="SHOP_TOKEN"
    )
    place = StorePath("shop", f"{tmp_path.name} + ü~/la'ke", named)
    assert Lake(place).pin("ops.nights").version == 0
    assert place.is_dir()


@pytest.mark.parametrize("letter", [*"[]*?%=\\|^#", "\t"])
def test_a_lake_whose_name_means_more_than_its_letters_is_refused(letter: str) -> None:
    with pytest.raises(SettingsError, match="may not hold"):
        refuse_unfit_lake(place_of(f"s3://shop/a{letter}b"))
