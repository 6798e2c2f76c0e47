"""Settings: where they come from, and one sentence for each that cannot be used."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.env_file import EnvFileError, read_env_file
from infra.errors import USAGE
from infra.settings import SettingsError, load_settings, setting_origins, unknown_variables

NOT_SECRET = "sk-do-not-show-me"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_has_to_be_set(folder: Path) -> None:
    """In an empty folder every setting has a usable value, and the secrets are made."""
    settings = load_settings()
    assert settings.home == folder / ".ottla"
    assert (settings.host, settings.port, settings.partitions) == ("127.0.0.1", 8000, 8)
    assert len(settings.admin_key.get_secret_value()) >= 20
    assert settings.app_secrets


def test_made_secrets_stay_and_are_private() -> None:
    """Secrets are made once, and only their owner may read them."""
    first, second = load_settings(), load_settings()
    assert first.admin_key == second.admin_key
    assert first.worker != second.worker
    assert (first.home / "secrets.json").stat().st_mode & 0o077 == 0


def test_processes_that_start_at_once_agree(folder: Path) -> None:
    """Of several that make the secrets at the same time all get the same ones, and nothing else is left behind."""
    with ThreadPoolExecutor(16) as pool:
        keys = pool.map(lambda _: load_settings().admin_key.get_secret_value(), range(64))
    assert len(set(keys)) == 1
    assert [path.name for path in (folder / ".ottla").iterdir()] == ["secrets.json"]


def test_a_made_secret_gives_way_to_a_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is set is used, without the blanks around it."""
    load_settings()
    monkeypatch.setenv("OTTLA_ADMIN_KEY", " mine \n")
    monkeypatch.setenv("OTTLA_WHATSAPP_APP_SECRET", "new, old,")
    settings = load_settings()
    assert settings.admin_key.get_secret_value() == "mine"
    assert settings.app_secrets == (b"new", b"old")


def test_an_app_secret_of_commas_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not empty, so none would be made, and every webhook would be refused without a word why."""
    monkeypatch.setenv("OTTLA_WHATSAPP_APP_SECRET", " , ")
    with pytest.raises(SettingsError, match=r"^OTTLA_WHATSAPP_APP_SECRET cannot be used: .* no secret\.$"):
        load_settings()


def test_the_environment_wins_over_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable in the environment wins over one in `.env`; an empty one counts as not set."""
    (folder / ".env").write_text("OTTLA_PORT=9001\nOTTLA_PARTITIONS=4\nOTHER=x\n")
    monkeypatch.setenv("OTTLA_PORT", "9002")
    monkeypatch.setenv("OTTLA_PARTITIONS", "")
    settings = load_settings()
    assert (settings.port, settings.partitions) == (9002, 4)
    origins = {setting.variable: setting.origin for setting in setting_origins()}
    assert origins["OTTLA_PORT"] == "environment"
    assert origins["OTTLA_PARTITIONS"] == ".env"
    assert origins["OTTLA_HOST"] == "default"
    assert origins["OTTLA_ADMIN_KEY"] == "made"


def test_every_setting_has_its_line_of_help() -> None:
    """No setting comes without a description."""
    assert all(setting.help for setting in setting_origins())


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("OTTLA_PORT", "http", "OTTLA_PORT cannot be used: input should be a valid integer"),
        ("OTTLA_PORT", "70000", "OTTLA_PORT cannot be used: input should be less than or equal to 65535."),
        ("OTTLA_KAFKA", "broker", "OTTLA_KAFKA cannot be used: 'broker' is not host:port."),
        ("OTTLA_CASSANDRA", "a:1,b:x", "OTTLA_CASSANDRA cannot be used: 'b:x' is not host:port."),
        ("OTTLA_AI_URL", "localhost:11434", "OTTLA_AI_URL cannot be used: it must be a URL that starts with http"),
        ("OTTLA_AI_URL", "http://", "OTTLA_AI_URL cannot be used: it must be a URL"),
        ("OTTLA_AI_URL", "http://h:99999/v1", "OTTLA_AI_URL cannot be used: it must be a URL"),
        ("OTTLA_AI_URL", "http://h/v1/chat/completions/", "OTTLA_AI_URL cannot be used: give the base URL, without /chat/completions."),
        ("OTTLA_AI_KEY", f"{NOT_SECRET}\nX-Header: 1", "OTTLA_AI_KEY cannot be used: it holds a line break"),
        ("OTTLA_AI_TIMEOUT", "nan", "OTTLA_AI_TIMEOUT cannot be used: input should be"),
        ("OTTLA_WORKER", "../../etc", "OTTLA_WORKER cannot be used: string should match pattern"),
        ("OTTLA_KEYSPACE", "my-space", "OTTLA_KEYSPACE cannot be used: string should match pattern"),
        ("OTTLA_LOG_LEVEL", "loud", "OTTLA_LOG_LEVEL cannot be used: input should be 'debug', 'info', 'warning' or 'error'."),
    ],
)
def test_a_value_that_cannot_be_used(variable: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused in one sentence that names the variable and never shows a secret."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)
    assert NOT_SECRET not in str(caught.value)
    assert caught.value.exit_code == USAGE


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"KAFKA_CA": "ca.pem"}, "OTTLA_KAFKA_CA cannot be used: it is for TLS, so set OTTLA_KAFKA_TLS=true too."),
        ({"CASSANDRA_TLS": "true", "CASSANDRA_CERT": "a.pem"}, "OTTLA_CASSANDRA_KEY cannot be used: it and OTTLA_CASSANDRA_CERT are set"),
        (
            {"KAFKA_TLS": "true", "KAFKA_KEY": "a.key"},
            "OTTLA_KAFKA_KEY cannot be used: it and OTTLA_KAFKA_CERT are set",
        ),
        ({"KAFKA_USER": "ottla"}, "OTTLA_KAFKA_PASSWORD cannot be used: it and OTTLA_KAFKA_USER are set together or not at all."),
        ({"CASSANDRA_PASSWORD": NOT_SECRET}, "OTTLA_CASSANDRA_PASSWORD cannot be used: it and OTTLA_CASSANDRA_USER are set"),
    ],
)
def test_settings_that_belong_together(given: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a login or of a certificate is refused before anything connects with it."""
    for name, value in given.items():
        monkeypatch.setenv(f"OTTLA_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith(sentence)
    assert NOT_SECRET not in str(caught.value)


def test_usable_values_are_brought_into_one_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks between servers, a slash at the end of a URL, `~` and the case of a level do not matter."""
    monkeypatch.setenv("OTTLA_KAFKA", "a:9092, [::1]:9093,")
    monkeypatch.setenv("OTTLA_AI_URL", "http://127.0.0.1:11434/v1/")
    monkeypatch.setenv("OTTLA_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("HOME", str(Path.cwd()))
    monkeypatch.setenv("OTTLA_HOME", "~/data")
    settings = load_settings()
    assert settings.kafka == "a:9092,[::1]:9093"
    assert settings.ai_url == "http://127.0.0.1:11434/v1"
    assert settings.log_level == "debug"
    assert settings.home == Path.cwd() / "data"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"OTTLA_PORT=1\nOTTLA_AI_KEY {NOT_SECRET}\n", 2),
        (f"\n\n  \nexport OTTLA_AI_KEY\nX={NOT_SECRET}", 4),
        (f'A=1\n# fine\nOTTLA_AI_KEY="{NOT_SECRET}\n', 3),
        (f"={NOT_SECRET}\n", 1),
    ],
)
def test_a_broken_env_file_names_its_line(folder: Path, text: str, line: int) -> None:
    """A line of `.env` that is not NAME=value is named by its number; its text, which may be a secret, is not shown."""
    (folder / ".env").write_text(text)
    with pytest.raises(EnvFileError) as caught:
        load_settings()
    assert str(caught.value) == f".env line {line} is not NAME=value: correct it, or put # before it."
    assert caught.value.exit_code == USAGE


def test_an_env_file_in_another_encoding(folder: Path) -> None:
    """A `.env` that is no UTF-8 is one sentence."""
    (folder / ".env").write_bytes("OTTLA_HOST=münchen".encode("latin-1"))
    with pytest.raises(EnvFileError, match=r"^\.env is not UTF-8 text: save it again as UTF-8\.$"):
        load_settings()


def test_what_an_env_file_may_hold(folder: Path) -> None:
    """Comments, quotes, `export`, blanks and a byte-order mark are fine."""
    (folder / ".env").write_text("\ufeff# mine\nexport A = 'x y' # why\nB=\"1\\n2\"\n\nC=\n", encoding="utf-8")
    assert read_env_file() == {"A": "x y", "B": "1\n2", "C": ""}


def test_a_home_that_cannot_be_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that is a file, or below one, is one sentence."""
    (folder / "file").write_text("")
    for home in ("file", "file/below"):
        monkeypatch.setenv("OTTLA_HOME", home)
        with pytest.raises(SettingsError, match=r"^OTTLA_HOME=.* cannot be written \(.*\): name a folder of yours\.$"):
            load_settings()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"admin_key": "x"}'])
def test_damaged_secrets(text: str) -> None:
    """A damaged file of secrets says what to do and is not overwritten, because other processes may use what it held."""
    path = load_settings().home / "secrets.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"secrets\.json is damaged: remove it and new secrets are made\.$"):
        load_settings()
    assert path.read_text() == text


def test_secrets_are_not_shown() -> None:
    """Printing the settings shows no secret."""
    settings = load_settings()
    made = json.loads((settings.home / "secrets.json").read_text())
    assert not any(secret in repr(settings) for secret in made.values())


def test_unknown_variables_are_named_with_the_nearest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that nobody reads gets a sentence, with the one that was probably meant; others are left alone."""
    (folder / ".env").write_text("OTTLA_AI_TOKEN=x\nKAFKA=x\n")
    monkeypatch.setenv("OTTLA_PARTITION", "8")
    monkeypatch.setenv("OTTLA_SOMETHING_ELSE_ENTIRELY", "x")
    monkeypatch.setenv("OTTLA_READY_URLS", "x")
    assert unknown_variables() == [
        "OTTLA_PARTITION in the environment is no setting: did you mean OTTLA_PARTITIONS?",
        "OTTLA_SOMETHING_ELSE_ENTIRELY in the environment is no setting.",
        "OTTLA_AI_TOKEN in .env is no setting: did you mean OTTLA_AI_KEY?",
    ]
