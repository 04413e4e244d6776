"""The settings: the annotated file, what is refused and how it is named, where paths start, what wins."""

import re
from pathlib import Path

import pytest

from gateway import config
from gateway.errors import ConfigError

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {})


def _load(folder: Path, text: str = "") -> config.Settings:
    path = folder / "gateway.toml"
    path.write_text(text, "utf-8")
    return config.load(path)


def test_the_annotated_file_is_what_the_classes_say() -> None:
    """A setting that is described nowhere does not exist for whoever runs this."""
    assert (ROOT / "config" / "gateway.toml").read_text("utf-8") == config.example()


def test_the_annotated_file_loads_as_the_defaults(tmp_path: Path) -> None:
    """As it is, everything in it is a comment."""
    assert _load(tmp_path, config.example()) == _load(tmp_path)


def test_each_commented_line_shows_its_default(tmp_path: Path) -> None:
    """Whoever takes the # away to change a value later must change nothing by that."""
    lines = [re.sub(r"^#(?=[a-z_]+ = )", "", line) for line in config.example().splitlines()]
    assert sum(" = " in line and not line.startswith("#") for line in lines) > 50
    assert _load(tmp_path, "\n".join(lines)) == _load(tmp_path)


def test_relative_paths_start_at_the_files_folder(tmp_path: Path) -> None:
    """Not where the command was typed; lists of files too, absolute ones stay."""
    settings = _load(tmp_path, '[spool]\ndirectory = "in"\n[seal]\ncertificate = "a/b.p12"\ntrust = ["c", "/d"]\n')
    assert settings.spool.directory == tmp_path / "in"
    assert settings.store.directory == tmp_path / "var"
    assert settings.seal.certificate == tmp_path / "a" / "b.p12"
    assert settings.seal.trust == (tmp_path / "c", Path("/d"))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[mail]\nrelay_portt = 25\n", "mail.relay_portt"),
        ("[mail]\nrelay_port = 70000\n", "mail.relay_port"),
        ('[mail]\nrelay_tls = "maybe"\n', "mail.relay_tls"),
        ("[delivery]\nlease_seconds = 100\nattempt_seconds = 90\n", "delivery"),
        ("[delivery]\nretry_minutes = []\n", "delivery.retry_minutes"),
        ("[delivery]\nretry_minutes = [1, -5]\n", "delivery.retry_minutes.1"),
        ("[delivery]\npoll_seconds = nan\n", "delivery.poll_seconds"),
        ("[spool]\nscan_seconds = inf\n", "spool.scan_seconds"),
        ('[store]\ndatabase = "sqlite:///gateway.db"\n', "store.database"),  # another one in each working directory
        ('[store]\ndatabase = "sqlite://"\n', "store.database"),
        ("[mail]\nkeep_message_days = 99999\n", "mail.keep_message_days"),
        ("[sftp]\nidle_minutes = 99999999999999999999\n", "sftp.idle_minutes"),
        ('[issuer]\nsellers = "732829320"\n', "issuer.sellers"),
        ('[issuer]\ntime_zone = "Europe/Nowhere"\n', "issuer.time_zone"),
        ('[issuer]\ntime_zone = "../../etc/passwd"\n', "issuer.time_zone"),
        ('[issuer]\ntime_zone = ""\n', "issuer.time_zone"),
        ("[nonsense]\n", "nonsense"),
        ("mail = 3\n", "mail"),
        ("[mail]\n[mail]\n", "gateway.toml"),
        ("not toml", "gateway.toml"),
    ],
)
def test_what_is_wrong_is_named(text: str, where: str, tmp_path: Path) -> None:
    """The section and the key, so that it is mended at the first try; a number that is none is wrong too."""
    with pytest.raises(ConfigError, match=re.escape(where)) as refused:
        _load(tmp_path, text)
    assert where in str(refused.value.facts["where"]) or where == "gateway.toml"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[mail]\nrelay_portt = 25\n", "[mail.relay_portt] no such setting; relay_port was meant?"),
        ("[mial]\n", "[mial] no such setting; mail was meant?"),
        ("[xyzzy]\n", "[xyzzy] no such setting"),
        ("mail = 3\n", "[mail] is a section: write [mail] on a line of its own"),
        ('[issuer]\nsellers = "732829320"\n', "[issuer.sellers] should be a list, such as"),
        ("[delivery]\nlease_seconds = 100\nattempt_seconds = 90\n", "[delivery] attempt_seconds must be"),
        ("[intake]\nworkers = 0\n", "[intake.workers] should be greater than 0 (it holds 0)"),
        ("not toml", "is not TOML: "),
    ],
)
def test_what_to_do_is_said_in_the_files_words(text: str, words: str, tmp_path: Path) -> None:
    """Nobody who writes TOML knows what a tuple, a model or a value error is."""
    with pytest.raises(ConfigError) as refused:
        _load(tmp_path, text)
    assert words in refused.value.message


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    """Not one mistake a start."""
    with pytest.raises(ConfigError) as refused:
        _load(tmp_path, "[mail]\nrelay_port = 0\n[sftp]\nthreads = 0\n")
    assert "mail.relay_port" in refused.value.message
    assert "sftp.threads" in refused.value.message


@pytest.mark.parametrize("key", ["database", "blobs"])
def test_a_stores_url_is_not_repeated(key: str, tmp_path: Path) -> None:
    """It may hold a password."""
    with pytest.raises(ConfigError) as refused:
        _load(tmp_path, f'[store]\n{key} = ["postgresql://user:secret@host/db"]\n')
    assert "secret" not in refused.value.message


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key by key: the rest of the section stays the file's."""
    monkeypatch.setenv("GATEWAY__MAIL__RELAY_HOST", "b.example")
    monkeypatch.setenv("GATEWAY__ISSUER__SELLERS", '["404833048"]')
    settings = _load(tmp_path, '[mail]\nrelay_host = "a.example"\nrelay_port = 26\n')
    assert (settings.mail.relay_host, settings.mail.relay_port) == ("b.example", 26)
    assert settings.issuer.sellers == ("404833048",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY__MAIL__RELAY_PRT", "25"),
        ("GATEWAY__MIAL__RELAY_PORT", "25"),
        ("GATEWAY__MAIL__RELAY_PORT", "many"),
        ("GATEWAY__ISSUER__SELLERS", "[404833048"),
        ("GATEWAY__MAIL", "{"),
    ],
)
def test_a_variable_that_means_nothing_is_refused(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt override that is passed over looks as if it worked."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError):
        _load(tmp_path)


def test_the_tree_is_frozen(tmp_path: Path) -> None:
    """A reload makes a new one; nobody changes the one that others hold."""
    settings = _load(tmp_path)
    for section, key in ((settings.mail, "relay_port"), (settings, "mail")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(section, key, getattr(section, key))


def test_the_file_is_the_one_named_or_the_first_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--config`, then config/gateway.toml, then /etc."""
    monkeypatch.setattr(config, "DEFAULT_PATHS", (tmp_path / "one", tmp_path / "two"))
    with pytest.raises(ConfigError, match="gateway init"):
        config.find(None)
    (tmp_path / "two").touch()
    assert config.find(None) == tmp_path / "two"
    (tmp_path / "one").touch()
    assert config.find(None) == tmp_path / "one"
    assert config.find(tmp_path / "two") == tmp_path / "two"
    with pytest.raises(ConfigError, match="three"):
        config.find(tmp_path / "three")


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    """No traceback for a wrong encoding or a missing file."""
    path = tmp_path / "gateway.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        config.load(path)


def test_a_directory_is_not_a_file_that_is_missing(tmp_path: Path) -> None:
    """`--config DIR` is a slip; `gateway init`, which the other message proposes, would not help."""
    with pytest.raises(ConfigError, match="Is a directory"):
        config.load(config.find(tmp_path))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("sftp", "connections_before_login_per_source", 10),
        ("sftp", "connections_before_login", 200),
        ("sftp", "connections_per_client", 16),
        ("sftp", "sessions_per_client", 32),
        ("sftp", "connections", 2000),
        ("sftp", "handles_per_session", 256),
        ("sftp", "login_seconds", 20),
        ("sftp", "idle_minutes", 15),
        ("sftp", "failures_per_minute", 5),
        ("sftp", "longest_delay_seconds", 20),
        ("sftp", "ban_after", 20),
        ("sftp", "ban_minutes", 10),
        ("sftp", "safe_sources", ()),
        ("sftp", "write_buffer_megabytes", 4),
        ("sftp_legacy", "enabled", False),
        ("folder", "path_bytes", 4096),
        ("folder", "sandbox_megabytes", 100),
        ("store", "free_space_floor_percent", 5),
    ],
)
def test_the_limits_are_what_clients_were_promised(section: str, key: str, value: object) -> None:
    """A default that drifts would shut clients out, or let too many in, without anybody having decided it."""
    assert getattr(getattr(config.Settings(), section), key) == value
