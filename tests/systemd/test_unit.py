"""systemd/: what can be known of the unit and its two companions without systemd."""

from pathlib import Path

import pytest

from gateway.config import SftpSettings

FOLDER = Path(__file__).parents[2] / "systemd"


def settings_of(section: str) -> dict[str, list[str]]:
    """The keys of one section of the unit, each with its values in order (a key may stand more than once)."""
    found: dict[str, list[str]] = {}
    current = ""
    for line in (FOLDER / "gateway.service").read_text().splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif current == section and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def lines_of(name: str) -> list[list[str]]:
    text = (FOLDER / name).read_text()
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def test_the_service_is_ready_when_it_says_so_and_is_watched_afterwards() -> None:
    """`serve` notifies READY and answers the watchdog; a unit that does not ask for it restarts nothing that hangs."""
    service = settings_of("Service")
    assert service["Type"] == ["notify"]
    assert service["NotifyAccess"] == ["main"]
    assert int(service["WatchdogSec"][0]) == 30
    assert service["Restart"] == ["on-failure"]


def test_a_reload_is_the_signal_that_the_daemon_reloads_on() -> None:
    """Type=notify-reload needs systemd 253, Debian 12 has 252."""
    assert settings_of("Service")["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_the_command_is_the_one_that_make_setup_installs() -> None:
    """One checkout, one venv, one file of settings, all by absolute path."""
    assert settings_of("Service")["ExecStart"] == [
        "/opt/gateway/.venv/bin/gateway serve --config /etc/gateway/gateway.toml"
    ]


def test_the_user_of_the_unit_is_the_one_that_sysusers_makes_and_never_root() -> None:
    """A fixed user owns the state, so that backups and ACLs can name it."""
    (user,) = settings_of("Service")["User"]
    assert user not in {"root", "0"}
    made = [(kind, name) for kind, name, *_ in lines_of("sysusers.d/gateway.conf")]
    assert made == [("u", user), ("g", "gateway-spool"), ("m", user)]
    assert "DynamicUser" not in settings_of("Service")


def test_settings_are_root_s_to_write_and_state_is_the_gateway_s_alone() -> None:
    """The daemon reads what it must not be able to change."""
    made = {path: (mode, owner, group) for _, path, mode, owner, group, *_ in lines_of("tmpfiles.d/gateway.conf")}
    assert made["/etc/gateway"] == ("0750", "root", "gateway")
    assert made["/var/lib/gateway"] == ("0700", "gateway", "gateway")
    assert settings_of("Service")["StateDirectory"] == ["gateway"]
    assert settings_of("Service")["StateDirectoryMode"] == ["0700"]


def test_the_billing_system_writes_to_the_spool_and_nowhere_else() -> None:
    """By a group of its own: the gateway's group reads the settings."""
    made = {path: (mode, owner, group) for _, path, mode, owner, group, *_ in lines_of("tmpfiles.d/gateway.conf")}
    of_spool = {path: row for path, row in made.items() if row[2] == "gateway-spool"}
    assert set(of_spool) == {f"/var/spool/gateway{name}" for name in ("", "/tmp", "/new", "/refused", "/quarantined")}
    assert {row[0] for path, row in of_spool.items() if path != "/var/spool/gateway"} == {"2770"}
    assert of_spool["/var/spool/gateway"] == ("0750", "gateway", "gateway-spool")
    assert settings_of("Service")["ReadWritePaths"] == ["-/var/spool/gateway"]


@pytest.mark.parametrize("key", ["AmbientCapabilities", "CapabilityBoundingSet"])
def test_the_service_holds_no_capability(key: str) -> None:
    """Its ports are above 1023; nothing else would need one."""
    assert settings_of("Service")[key] == [""]


def test_a_stop_waits_longer_than_the_transfers_may_take() -> None:
    """systemd kills what is still there after TimeoutStopSec; transfers may finish for grace_seconds."""
    assert int(settings_of("Service")["TimeoutStopSec"][0]) > SftpSettings().grace_seconds
