"""Settings: one list for the command line, the environment and the documentation."""

from pathlib import Path

import pytest

from mithril import settings
from mithril.settings import SettingsError


def test_without_any_environment_every_setting_has_its_default() -> None:
    loaded = settings.load({})
    assert (loaded.port, loaded.internal_port, loaded.workers, loaded.demo) == (4000, 4001, 1, False)


def test_every_setting_has_a_variable_of_its_own_and_a_description() -> None:
    rows = list(settings.all_settings())
    assert len({row.variable for row in rows}) == len(rows)
    assert all(row.variable.startswith("MITHRIL_") and len(row.description) > 10 for row in rows)


def test_the_environment_is_read() -> None:
    environment = {"MITHRIL_PORT": " 5000 ", "MITHRIL_DEMO": "yes", "MITHRIL_ADMIN_CLIENT_TYPES": "A B, C,"}
    loaded = settings.load(environment)
    assert (loaded.port, loaded.demo, loaded.admin_client_types) == (5000, True, ("A B", "C"))


def test_a_given_value_goes_before_the_environment() -> None:
    assert settings.load({"MITHRIL_PORT": "5000"}, port=6000, host=None).port == 6000


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("a key\n")
    assert settings.load({"MITHRIL_INTERNAL_KEY_FILE": str(file)}).internal_key == "a key"


def test_a_setting_that_is_no_secret_does_not_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "port"
    file.write_text("5000")
    assert settings.load({"MITHRIL_PORT_FILE": str(file)}).port == 4000


def test_an_empty_variable_counts_as_missing_except_that_it_empties_a_list(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://db/mithril")
    names = ("PORT", "HOST", "DEMO", "LOG_LEVEL", "ADMIN_CLIENT_TYPES", "DATABASE_URL")
    environment = {f"MITHRIL_{name}": "" for name in names} | {"MITHRIL_DATABASE_URL_FILE": str(file)}
    loaded = settings.load(environment)
    assert (loaded.port, loaded.host, loaded.demo, loaded.log_level) == (4000, "127.0.0.1", False, "info")
    assert (loaded.admin_client_types, loaded.database_url) == ((), "postgresql://db/mithril")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("MITHRIL_PORT", "http", "MITHRIL_PORT: expected `int`, got `str`"),
        ("MITHRIL_PORT", "65536", "MITHRIL_PORT: expected `int` <= 65535"),
        ("MITHRIL_WORKERS", "0", "MITHRIL_WORKERS: expected `int` >= 1"),
        ("MITHRIL_DEMO", "perhaps", "MITHRIL_DEMO: expected true or false"),
        ("MITHRIL_INTERNAL_KEY_FILE", "/no/such/file", "MITHRIL_INTERNAL_KEY_FILE: cannot read /no/such/file"),
    ],
)
def test_a_value_that_does_not_fit_is_named(variable: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        settings.load({variable: value})
    assert message in str(refusal.value)
