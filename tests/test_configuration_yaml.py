"""The YAML of `ottla apply`, with its lines."""

from pathlib import Path

import pytest

from infra.configuration_yaml import read_configuration_yaml
from infra.errors import UsageError

NOT_SECRET = "do-not-show-me"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shop.yaml"


def test_values_are_what_is_written(file: Path) -> None:
    """No value becomes a number, a date or a truth: leading zeros, `no` and long numbers stay."""
    file.write_text("accounts:\n  - {id: 007, phone_number_id: 106540352242922, tenant: no, agent: 2026-11-21, token: }\n")
    entry = {"id": "007", "phone_number_id": "106540352242922", "tenant": "no", "agent": "2026-11-21", "token": ""}
    assert read_configuration_yaml(file).document == {"accounts": [entry]}


def test_every_place_has_its_line(file: Path) -> None:
    """A path leads to the line it stands in; one that the file does not have, to the nearest above it."""
    file.write_text("# mine\n\ntenants:\n  - id: a\n  - id: b\n    name: |\n      two\n      lines\nagents: []\n")
    read = read_configuration_yaml(file)
    assert read.line(("tenants", 0, "id")) == 4
    assert read.line(("tenants", 1)) == 5
    assert read.line(("tenants", 1, "name")) == 6
    assert read.line(("tenants", 1, "kind")) == 5
    assert read.line(("nowhere",)) == 3
    assert read.document["tenants"][1]["name"] == "two\nlines\n"


def test_secrets_come_from_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`${NAME}` in a secret is read from the environment or `.env`; elsewhere it is text."""
    (file.parent / ".env").write_text("APP=from-file\nTOKEN=from-file\n")
    monkeypatch.setenv("TOKEN", "from-environment")
    file.write_text("accounts:\n- id: a\n  token: x-${TOKEN}\n  app_secret: ${APP}\n  agent: ${TOKEN}\n")
    (entry,) = read_configuration_yaml(file).document["accounts"]
    assert entry == {"id": "a", "token": "x-from-environment", "app_secret": "from-file", "agent": "${TOKEN}"}


def test_a_variable_that_is_not_set(file: Path) -> None:
    """A secret whose variable is not set is a mistake in its line."""
    file.write_text("accounts:\n- id: a\n  token: ${MISSING_TOKEN}\n")
    read = read_configuration_yaml(file)
    assert [(read.line(mistake.path), mistake.message) for mistake in read.mistakes] == [
        (3, "The environment variable MISSING_TOKEN is not set.")
    ]


def test_a_key_that_stands_twice(file: Path) -> None:
    """The second of two equal keys is a mistake; YAML alone would forget the first."""
    file.write_text("tenants:\n- id: a\n  name: x\n  name: y\n")
    read = read_configuration_yaml(file)
    assert [(read.line(mistake.path), mistake.message) for mistake in read.mistakes] == [(4, "`name` stands twice in one place.")]


def test_knowledge_beside_the_file(file: Path) -> None:
    """Knowledge that lies beside the file is named by its whole path; a path that only the workers have is left."""
    (file.parent / "faq.json").write_text("{}")
    file.write_text("agents:\n- knowledge: faq.json\n- knowledge: /srv/knowledge.json\n- id: x\n")
    entries = read_configuration_yaml(file).document["agents"]
    assert [entry.get("knowledge") for entry in entries] == [str(file.parent / "faq.json"), "/srv/knowledge.json", None]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file(file: Path, text: str) -> None:
    """A file with nothing in it holds no entries."""
    file.write_text(text)
    assert not read_configuration_yaml(file).document


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (f"a: b: {NOT_SECRET}\n".encode(), "line 1 is not YAML: mapping values are not allowed here."),
        (f"a:\n  - b\n c: {NOT_SECRET}\n".encode(), "line 3 is not YAML: "),
        (f'a: "{NOT_SECRET}\n'.encode(), "is not YAML: found unexpected end of stream."),
        (f"a: *{NOT_SECRET}\n".encode(), "line 1 is not YAML: found undefined alias what stands there."),
        (b"\ta: b\n", "line 1 is not YAML: "),
        (b"a: \x07\n", "is not YAML: "),
        (b"a: b\n---\nc: d\n", "line 2 is not YAML: "),
        (b"\xff\xfea", "is not UTF-8 text: save it again as UTF-8."),
        (b"[" * 5000, "is not YAML: "),
        (b"a" * (5 << 20), "is larger than 4 MiB: apply it in parts."),
    ],
)
def test_what_is_no_yaml(file: Path, content: bytes, sentence: str) -> None:
    """It is refused in one sentence with the line, without showing what stands there."""
    file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_configuration_yaml(file)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(str(file))
    assert NOT_SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_references_that_grow_without_end(file: Path) -> None:
    """Lists of references to lists of references are not followed below the depth that means anything."""
    levels = "\n".join(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]" for level in range(1, 30))
    file.write_text(f"l0: &l0 [x]\n{levels}\n")
    assert set(read_configuration_yaml(file).document) == {f"l{level}" for level in range(30)}


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read(file: Path, name: str) -> None:
    """A missing file, or a folder, is one sentence."""
    with pytest.raises(UsageError, match=r"cannot be read: .*\.$"):
        read_configuration_yaml(file.parent / name)
