"""The settings: the file in the repository, what is refused, where paths start."""

from pathlib import Path

import pytest

from gateway import config
from gateway.errors import ConfigError

ROOT = Path(__file__).parents[1]


def test_the_annotated_file_is_what_the_classes_say() -> None:
    """A setting that is described nowhere does not exist for whoever runs this."""
    assert (ROOT / "config" / "gateway.toml").read_text("utf-8") == config.example()


def test_the_annotated_file_loads_as_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(config.example(), "utf-8")
    assert config.load(path).delivery == config.DeliverySettings()


def test_relative_paths_start_at_the_files_folder(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[spool]\ndirectory = "in"\n', "utf-8")
    settings = config.load(path)
    assert settings.spool.directory == tmp_path / "in"
    assert settings.store.directory == tmp_path / "var"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[mail]\nrelay_portt = 25\n", "mail.relay_portt"),
        ("[mail]\nrelay_port = 70000\n", "mail.relay_port"),
        ("[delivery]\nlease_seconds = 100\nattempt_seconds = 90\n", "delivery"),
        ('[issuer]\ntime_zone = "Europe/Nowhere"\n', "issuer.time_zone"),
        ("[nonsense]\n", "nonsense"),
        ("not toml", "gateway.toml"),
    ],
)
def test_what_is_wrong_is_named(text: str, where: str, tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=where):
        config.load(path)


def test_a_database_url_is_not_repeated(tmp_path: Path) -> None:
    """It may hold a password."""
    path = tmp_path / "gateway.toml"
    path.write_text('[store]\ndatabase = ["postgresql://user:secret@host/db"]\n', "utf-8")
    with pytest.raises(ConfigError) as refused:
        config.load(path)
    assert "secret" not in refused.value.message


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[mail]\nrelay_host = "a.example"\nrelay_port = 26\n', "utf-8")
    monkeypatch.setenv("GATEWAY__MAIL__RELAY_HOST", "b.example")
    mail = config.load(path).mail
    assert (mail.relay_host, mail.relay_port) == ("b.example", 26)
