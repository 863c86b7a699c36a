from pathlib import Path

import pytest

from tasks.errors import SettingsError
from tasks.settings import Frozen, Settings, load_settings, parse_day
from tasks.stores import Storage

ROOT = Path(__file__).parents[2]


def test_the_shipped_file_states_every_default() -> None:
    shipped = load_settings(ROOT / "deployments" / "settings.toml")
    assert shipped == Settings()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[publish]\nkk = 3", "publish.kk"),
        ("[publish]\nk = 0", "publish.k"),
        ("[train]\nmodels = []", "models"),
        ("[train]\nmodels = ['bpr', 'bpr']", "models"),
        ("[publish]\nmodel = 'magic'", "magic"),
        ("[propensity]\nsmoothing_a = 20", "smoothing_a"),
        ("[propensity]\nclip = nan", "clip"),
        ("[compute]\nmemory_limit = 'lots'", "memory_limit"),
        ("[compute]\nthreads = 100000", "compute.threads"),
        ("[compute]\nmemory_limit = '1MB'", "memory_limit"),
        ("[publish]\nk = true", "publish.k"),
        ("[publish]\nk = '20'", "publish.k"),
        ("[paths]\nlake = ''", "paths.lake"),
        ("this is no toml", "settings.toml"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=named):
        load_settings(path)


def test_a_missing_file_is_an_error_when_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        load_settings(tmp_path / "absent.toml")


def test_a_day_is_written_as_iso() -> None:
    assert parse_day("2026-01-25").day == 25
    with pytest.raises(SettingsError, match="is no date"):
        parse_day("25.1.2026")


def test_prefect_can_look_through_all_settings() -> None:
    """It takes every record apart as a mapping, which a method of ours named keys would break."""
    for record in (Settings(), *dict(Settings()).values()):
        if isinstance(record, Frozen | Storage):
            assert set(dict(record)) == set(type(record).model_fields)
