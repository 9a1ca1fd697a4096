"""Settings: one list for the command line, the environment and the documentation."""

from pathlib import Path
from typing import get_origin

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


def test_what_came_from_files_is_read_again_and_nothing_else(tmp_path: Path) -> None:
    key, url = tmp_path / "key", tmp_path / "url"
    key.write_text("one")
    url.write_text("postgresql://a/one")
    environment = {"MITHRIL_INTERNAL_KEY_FILE": str(key), "MITHRIL_DATABASE_URL_FILE": str(url)}
    loaded = settings.load(environment, database_url="postgresql://a/given", port=6000)
    key.write_text("two")
    url.write_text("postgresql://a/two")
    again = settings.reread(loaded, environment | {"MITHRIL_PORT": "7000"})
    assert (again.internal_key, again.database_url, again.port) == ("two", "postgresql://a/given", 6000)
    assert settings.reread(settings.load(environment), environment).database_url == "postgresql://a/two"


@pytest.mark.parametrize(("text", "message"), [(" \n", "_FILE: .* is empty"), ("ключ", "printable ASCII")])
def test_a_file_that_cannot_be_used_is_not_read_again(tmp_path: Path, text: str, message: str) -> None:
    """An emptied file must not open the internal listener."""
    key = tmp_path / "key"
    key.write_text("one")
    environment = {"MITHRIL_INTERNAL_KEY_FILE": str(key)}
    loaded = settings.load(environment)
    key.write_text(text)
    with pytest.raises(SettingsError, match=f"MITHRIL_INTERNAL_KEY.*{message}"):
        settings.reread(loaded, environment)


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
        ("MITHRIL_PORT", "http", "MITHRIL_PORT: expected a whole number from 0 to 65535"),
        ("MITHRIL_PORT", "65536", "MITHRIL_PORT: expected a whole number from 0 to 65535"),
        ("MITHRIL_WORKERS", "0", "MITHRIL_WORKERS: expected a whole number from 1 to 256"),
        ("MITHRIL_DB_POOL_SIZE", "1.5", "MITHRIL_DB_POOL_SIZE: expected a whole number from 2 to 1000"),
        ("MITHRIL_POOL_TIMEOUT", "0", "MITHRIL_POOL_TIMEOUT: expected a number above 0, up to 3600"),
        ("MITHRIL_LOG_LEVEL", "loud", "MITHRIL_LOG_LEVEL: expected debug, info, warning or error"),
        ("MITHRIL_LOG_FORMAT", "xml", "MITHRIL_LOG_FORMAT: expected auto, json or text"),
        ("MITHRIL_HOME", "h" * 4097, "MITHRIL_HOME: expected a text of 0 to 4096 characters"),
        ("MITHRIL_DEMO", "perhaps", "MITHRIL_DEMO: expected true or false"),
        ("MITHRIL_INTERNAL_KEY_FILE", "/no/such/file", "MITHRIL_INTERNAL_KEY_FILE: cannot read /no/such/file"),
        ("MITHRIL_SWEEP_INTERVAL", "nan", "MITHRIL_SWEEP_INTERVAL: expected a number from 0 to 86400"),
    ],
)
def test_a_value_that_does_not_fit_is_named(variable: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        settings.load({variable: value})
    assert message in str(refusal.value)


def test_of_each_setting_with_a_type_a_wrong_value_is_told_in_plain_words() -> None:
    for setting in settings.all_settings():
        if setting.type is str or get_origin(setting.type) is tuple:
            continue
        with pytest.raises(SettingsError, match=rf"{setting.variable}: expected [\w ,]+$"):
            settings.load({setting.variable: "wrong"})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "PUBLIC_URL",
            [
                "auth.example.org",
                "//auth.example.org",
                "ftp://auth.example.org",
                "https://",
                "https:///path",
                "https://a b",
                "https://auth.example.org?a=b",
                "https://auth.example.org/#a",
                "https://user@auth.example.org",
                "https://auth.example.org:port",
                "https://auth.example.org:65536",
                "https://auth.example.org:0",
                "https://auth.example.org:",
                "https://auth.example.org/oauth",
                "https://auth.example.org//",
                "https://..",
                "https://-",
                "https://a..b",
                "https://-a.example",
                f"https://{'a' * 64}.example",
                "https://10.0.0.256",
                "https://[::g]",
                "https://[a]",
                "https://ключ.example",
                "https://auth.example.org\nb",
                "true",
            ],
        ),
        (
            "TRUSTED_PROXIES",
            [
                *(
                    "abc",
                    "10.0.0.0/33",
                    "10.0.0.1/8",
                    "10.0.0",
                    "10.0.0.1;10.0.0.2",
                    "10.0.0.1,",
                    "proxy.example",
                    "::g",
                ),
                *("*,10.0.0.1", "10.0.0.1, *", "*,*"),
            ],
        ),
        ("DIGITAL_SIGNATURE_ENDPOINT", ["signatures.example.org", "file:///etc/passwd"]),
        ("MPI_ENDPOINT", ["mpi.example.org", "ftp://mpi.example.org"]),
        ("OTP_ENDPOINT", ["sms.example.org/send", "file:///etc/passwd", "https://", "https://..", "https://sms:0/"]),
        (
            "HOST",
            ["a b", "http://a", "a:80", "[::1]", "10.0.0.256", "a/b", "a,b", "*", "ключ", "-", "..", "fe80::1%a b"],
        ),
        ("INTERNAL_HOST", ["a b", "::g", "a\nb"]),
        ("WEBHOOK_KEY", ["k" * 31, "ключ" * 10]),
        ("JWT_SECRET", ["short", "k" * 63, "\udcff" * 64]),
        (
            "DATABASE_URL",
            [
                "mysql://localhost/mithril",
                "localhost/mithril",
                "/var/lib/mithril",
                "postgresql://h:abc/m",
                "postgres://[::1/m",
                "postgresql://user:a/password@h/m",
                "postgresql://user:7/password@h/m",
                "postgresql://user:p@ssword@h/m",
                "postgresql://user:p@h:7/part@h/m",
                "postgresql://user:p#h@h/m",
                "postgresql://user:p?h@h/m",
            ],
        ),
        ("TRUSTED_CLIENT_IDS", ["all", "1380df72-275a-11e7-93ae-92361f002671,abc", "1380df72275a11e793ae92361f002671"]),
        ("INTERNAL_KEY", ["ключ", "a\nb", "a\x7f"]),
        ("OTP_SMS_TEMPLATE", ["Your code is otp.code"]),
    ],
)
def test_a_value_that_cannot_be_meant_is_named_in_one_line(name: str, values: list[str]) -> None:
    for value in values:
        with pytest.raises(SettingsError) as refusal:
            settings.load({f"MITHRIL_{name}": value})
        message = str(refusal.value)
        assert message.startswith(f"MITHRIL_{name}: expected ")
        assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "PUBLIC_URL",
            [
                "https://auth.example.org",
                "http://localhost:4000/",
                "HTTPS://A.example",
                "http://[::1]:4000",
                "http://my_host.:80",
            ],
        ),
        ("TRUSTED_PROXIES", ["127.0.0.1", "10.0.0.0/8, ::1,fd00::/8", "::ffff:10.0.0.0/104", "*"]),
        ("OTP_ENDPOINT", ["http://sms:8080/send?a=b", "https://user:pass@sms.example.org"]),
        ("DATABASE_URL", ["postgresql://postgres@/m?host=/run", "postgres://u:p%2F@a:1,[::1]:2/m", "postgresql://"]),
        ("HOST", ["0.0.0.0", "::", "fe80::1%eth0", "localhost", "auth_1.example.org.", "1a"]),
        ("WEBHOOK_KEY", ["k" * 32]),
        ("JWT_SECRET", ["k" * 64, "к" * 32]),
        ("TRUSTED_CLIENT_IDS", ["1380DF72-275a-11e7-93ae-92361f002671", ""]),
        ("INTERNAL_KEY", ["the key of the internal listener"]),
        ("OTP_SMS_TEMPLATE", ["<otp.code>"]),
    ],
)
def test_what_can_be_meant_is_taken(name: str, values: list[str]) -> None:
    for value in values:
        settings.load({f"MITHRIL_{name}": value})


def test_an_unknown_variable_is_told_with_the_nearest_name() -> None:
    environment = {
        "MITHRIL_PUBLC_URL": "x",
        "MITHRIL_SMTP": "x",
        "MITHRIL_PORT_FILE": "x",
        "MITHRIL_PORT": "4000",
        "MITHRIL_INTERNAL_KEY_FILE": "x",
        "PATH": "x",
    }
    unknown = settings.unknown_variables(environment)
    assert list(unknown) == ["MITHRIL_PORT_FILE", "MITHRIL_PUBLC_URL", "MITHRIL_SMTP"]
    assert unknown["MITHRIL_PORT_FILE"] == "MITHRIL_PORT"
    assert unknown["MITHRIL_PUBLC_URL"] == "MITHRIL_PUBLIC_URL"
    assert unknown["MITHRIL_SMTP"] in {each.variable for each in settings.all_settings()}


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    environment = {
        "MITHRIL_PORT": "http",
        "MITHRIL_JWT_SECRET": "a-short-secret",
        "MITHRIL_INTERNAL_KEY_FILE": str(tmp_path / "missing"),
        "MITHRIL_DEMO": "perhaps",
        "MITHRIL_SMTP_URL": "smtps://mail.example.org",
        "MITHRIL_WORKERS": "2",
    }
    with pytest.raises(SettingsError) as refusal:
        settings.load(environment, db_pool_size=1)
    named = [problem.partition(":")[0].removeprefix("MITHRIL_") for problem in refusal.value.args]
    assert named == ["PORT", "INTERNAL_KEY_FILE", "DEMO", "SMTP_SENDER", "JWT_SECRET", "DB_POOL_SIZE"]
    assert "a-short-secret" not in str(refusal.value)


def test_each_value_says_where_it_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("a key\n")
    environment = {"MITHRIL_INTERNAL_KEY_FILE": str(file), "MITHRIL_WORKERS": "2", "MITHRIL_PORT": "1"}
    found = {each.setting.name: each for each in settings.current(environment, port=6000)}
    shown = [found[name][1:3] for name in ("internal_key", "workers", "port", "internal_port")]
    assert shown == [("a key", "file"), (2, "environment"), (6000, "option"), (4001, "default")]
    assert len(found) == len(list(settings.all_settings()))
