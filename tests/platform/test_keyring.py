"""The secrets of an installation."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.keyring import admin_key, admin_key_file, codes_key, has_codes_key, secret_key
from app.settings import Settings


@pytest.fixture
def fresh(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", admin_key=None, secret_key=None, codes_key=None)


def test_a_key_is_made_once_and_only_its_owner_can_read_it(fresh: Settings) -> None:
    first = admin_key(fresh)
    assert len(first) >= 43
    assert admin_key(fresh) == first
    assert len({first, secret_key(fresh), codes_key(fresh)}) == 3
    for name in ("admin.key", "secret.key", "codes.key"):
        assert stat.S_IMODE((fresh.data_dir / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(fresh.data_dir.stat().st_mode) == 0o700


def test_a_key_from_outside_wins_and_nothing_is_written(fresh: Settings) -> None:
    given = fresh.model_copy(update={"admin_key": SecretStr("from outside")})
    assert admin_key(given) == "from outside"
    assert admin_key_file(given) is None
    assert not fresh.data_dir.exists()


def test_codes_are_sealed_with_a_key_of_their_own_and_with_that_of_the_settings_where_it_is_set(
    fresh: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUREL_CODES_KEY", "for codes")
    given = Settings(data_dir=fresh.data_dir)
    assert codes_key(given) == "for codes"
    assert "for codes" not in repr(given)
    assert not fresh.data_dir.exists()
    assert has_codes_key(given)
    assert not has_codes_key(fresh)
    made = codes_key(fresh)
    assert has_codes_key(fresh)
    assert made == codes_key(fresh) == (fresh.data_dir / "codes.key").read_text().strip()


def test_a_variable_set_to_nothing_does_not_make_nothing_the_password(fresh: Settings) -> None:
    assert len(admin_key(fresh.model_copy(update={"admin_key": SecretStr("")}))) >= 43


def test_a_key_that_others_can_read_is_closed_to_them(fresh: Settings) -> None:
    first = admin_key(fresh)
    (fresh.data_dir / "admin.key").chmod(0o644)
    assert admin_key(fresh) == first
    assert stat.S_IMODE((fresh.data_dir / "admin.key").stat().st_mode) == 0o600


def test_processes_that_start_together_agree_on_the_key(
    tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    program = (
        "from app.keyring import secret_key; from app.settings import Settings; print(secret_key(Settings()))"
    )
    environment = {**clean_environment, "LAUREL_DATA_DIR": str(tmp_path / "together")}
    processes = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    keys = {process.communicate(timeout=30)[0] for process in processes}
    assert len(keys) == 1
    assert len(keys.pop().strip()) >= 43
