"""The command line: through the daemon where one runs, by itself where none does, and the same either way."""

import asyncio
import contextlib
import json
import logging
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import structlog

from gateway import cli, config
from gateway.commands import check as checks
from gateway.commands import show, submit
from gateway.commands.reach import Api
from gateway.demo.authority import Authority
from gateway.errors import Refused, Unavailable
from gateway.servers.ftps_tls import Identity
from gateway.store import state
from tests.intake import makers

SIREN = makers.BUYER
Gateway = Callable[..., tuple[int, str, str]]


def _write(folder: Path, **sections: dict[str, Any]) -> Path:
    """A settings file on free ports, with what the test says."""
    wanted: dict[str, dict[str, Any]] = {
        "issuer": {"sellers": [makers.SELLER]},
        "store": {"directory": str(folder / "state"), "free_space_floor_percent": 0.0, "reserve_megabytes": 0},
        "http": {"listen": "127.0.0.1:0"},
        "sftp": {"listen": "127.0.0.1:0"},
        "mail": {"enabled": False},
        "spool": {"enabled": False},
    }
    for name, values in sections.items():
        wanted[name] = wanted.get(name, {}) | values
    lines = [
        line
        for name, values in wanted.items()
        for line in (f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()))
    ]
    path = folder / "gateway.toml"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    return _write(tmp_path)


@pytest.fixture
def gateway(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Gateway]:
    """Run `gateway …` in this process: its exit status, standard output, standard error."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gateway", "--config", str(settings_file), *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    yield run
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


@contextlib.contextmanager
def _daemon(processes: Any, settings_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = processes.start(
        sys.executable, "-m", "gateway", "--config", settings_file, "serve", stderr=subprocess.PIPE
    )
    path = state.admin_socket(config.load(settings_file).store)
    deadline = time.monotonic() + 60
    while True:
        try:
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
                probe.connect(str(path))
                break
        except OSError:
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.1)
    yield process
    process.terminate()
    assert process.wait(30) == 0, process.stderr.read().decode()


def _set_up(gateway: Gateway) -> str:
    """A client with a company and a subscribed contract; its id."""
    code, out, err = gateway("client", "add", "Apuron", "--json")
    assert code == 0, err
    client: str = json.loads(out)["id"]
    assert gateway("company", "add", SIREN, "Apuron PV 2", "apuron")[0] == 0
    assert gateway("contract", "add", "CARD-S-000123", SIREN, "--type", "CARD_S")[0] == 0
    code, out, err = gateway("subscription", "add", "Apuron", "--all", "--from", "2026-01-01", "--reason", "start")
    assert code == 0, out + err
    return client


def _invoices(folder: Path, *numbers: str) -> Path:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        (folder / f"{number}.pdf").write_bytes(makers.factur_x(makers.invoice_xml(number)))
    return folder


def test_without_a_daemon_a_command_does_it_itself(gateway: Gateway, tmp_path: Path) -> None:
    """From nothing to an explained document, with no process running."""
    _set_up(gateway)
    folder = _invoices(tmp_path / "in", "F-1", "F-2")
    code, out, _ = gateway("submit", folder)
    assert code == 0
    assert "2 files: 2 new" in out
    code, out, _ = gateway("submit", folder / "F-1.pdf", "--json")
    assert (code, json.loads(out)[0]["outcome"]) == (0, "again")
    code, out, _ = gateway("explain", "F-1")
    assert code == 0
    assert "Received by submit from cli:" in out
    assert "What comes next" in out
    code, out, _ = gateway("status", "--json")
    assert (code, json.loads(out)["documents"][0]["count"]) == (0, 2)


def test_only_regular_files_are_handed_in(gateway: Gateway, tmp_path: Path) -> None:
    """A pipe would be waited for, and /dev/zero read until the memory is full."""
    os.mkfifo(tmp_path / "pipe.pdf")
    for path in (tmp_path / "pipe.pdf", Path("/dev/zero")):
        code, out, err = gateway("submit", path, "--json")
        assert (code, json.loads(out)[0]["reason"]) == (1, "not a regular file"), err


def test_a_directory_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    """Its documents would be missed in silence."""
    closed = tmp_path / "in" / "closed"
    closed.mkdir(parents=True)
    assert submit.gather([tmp_path / "in"]) == []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "scandir", _denied)  # a mode would not stop who may read any file
        with pytest.raises(Refused, match="Permission denied"):
            submit.gather([tmp_path / "in"])


def _denied(path: object) -> object:
    raise PermissionError(13, "Permission denied", str(path))


def test_an_id_leads_to_no_other_endpoint(gateway: Gateway) -> None:
    """It is typed by a person, and stands in a path."""
    for word in ("../../clients", "a?b=c", "..", "a/retry#"):
        code, out, err = gateway("queue", "retry", word)
        assert code == 1, out
        assert "no such delivery" in err or "Not Found" in err


def test_settings_are_not_replaced_by_nothing(gateway: Gateway) -> None:
    """`gateway settings set CLIENT` would have switched the mail off."""
    client = _set_up(gateway)
    assert gateway("settings", "set", client)[0] == 2


def test_a_gateway_that_went_away_fails_files_and_keeps_the_summary(tmp_path: Path) -> None:
    """What was taken before is said; the rest is not waited for file by file."""

    class Gone(Api):
        def __init__(self) -> None:
            self.calls = 0

        async def post(self, path: str, body: Any = None, **request: Any) -> Any:
            self.calls += 1
            raise Unavailable("the gateway does not answer")

    gone = Gone()
    files = sorted(_invoices(tmp_path / "in", *(f"F-{n}" for n in range(12))).iterdir())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(submit, "_WAITS", (0.0, 0.0))
        results = asyncio.run(submit.submit(gone, files, lambda: None))
    assert [one.outcome for one in results] == ["failed"] * 12
    assert gone.calls < 12 * 3


def test_with_a_daemon_the_same_commands_go_through_it(
    gateway: Gateway, settings_file: Path, tmp_path: Path, processes: Any
) -> None:
    """The daemon is the only writer: a command that opened the database beside it would be a second one."""
    _set_up(gateway)
    with _daemon(processes, settings_file):
        code, out, err = gateway("submit", _invoices(tmp_path / "in", "F-1"))
        assert code == 0, out + err
        code, out, err = gateway("explain", "F-1", "--json")
        assert (code, json.loads(out)[0]["number"]) == (0, "F-1"), err
        code, out, _ = gateway("token", "create", "erp", "--scope", "operator:viewer")
        assert (code, out[:3]) == (0, "gw_")
        code, _, err = gateway("migrate")
        assert (code, "stop it" in err) == (1, True)
        assert gateway("check")[0] == 0  # its own ports are no trouble


def test_serve_ends_cleanly_and_leaves_the_lock(gateway: Gateway, settings_file: Path, processes: Any) -> None:
    """A1; the next command works alone again."""
    with _daemon(processes, settings_file):
        code, _, err = gateway("serve")
        assert (code, err.count("\n")) == (1, 1)
        assert "another gateway process" in err
    assert gateway("status")[0] == 0


def test_the_order_of_options_does_not_matter() -> None:
    """`gateway check --config F` is what people type."""
    for words in (
        ["--config", "f", "check", "--json"],
        ["check", "--config", "f", "--json"],
        ["check", "--json", "--config=f"],
    ):
        assert sorted(cli._options_first(words)) == sorted(words)
        assert cli._options_first(words)[0].startswith("--config")
    assert cli._options_first(["submit", "--", "--config", "x"]) == ["submit", "--", "--config", "x"]


@pytest.mark.parametrize(
    "words", [["nothing"], ["submit"], ["token", "create"], ["queue", "retry"], ["status", "--colour"], ["--config"]]
)
def test_wrong_usage_is_2(gateway: Gateway, words: list[str]) -> None:
    """Scripts tell a typing error from a refusal."""
    code, out, err = gateway(*words)
    assert code == 2
    assert "Traceback" not in out + err


def test_an_error_is_one_line_that_names_the_program(gateway: Gateway, settings_file: Path) -> None:
    """What was wrong, where, what to do: no traceback."""
    settings_file.write_text("[mail]\nrelay_prot = 25\n", "utf-8")
    code, _, err = gateway("status")
    assert code == 1
    assert err.startswith("gateway: ")
    assert err.count("\n") == 1
    assert "[mail.relay_prot] no such setting" in err
    for words in (["explain", "none"], ["queue", "retry", "dlv_x"], ["token", "revoke", "tok_x"]):
        settings_file.write_text(_write(settings_file.parent).read_text("utf-8"), "utf-8")
        code, _, err = gateway(*words)
        assert (code, err.count("\n"), err[:9]) == (1, 1, "gateway: "), err


def test_another_users_state_directory_is_refused(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of another user would stop the daemon later."""
    (tmp_path / "state").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    for words in (["status"], ["submit", str(tmp_path)], ["migrate"], ["token", "list"]):
        code, _, err = gateway(*words)
        assert code == 1
        assert "run it as that user" in err


def test_serve_refuses_root(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no right that root alone has."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    code, _, err = gateway("serve")
    assert code == 1
    assert "does not run as root" in err


def test_submit_says_of_each_file_what_became_of_it_and_fails_if_one_was_not_taken(
    gateway: Gateway, tmp_path: Path
) -> None:
    """A sidecar is picked up; a refusal names its reason; other bytes go to quarantine."""
    _set_up(gateway)
    folder = _invoices(tmp_path / "in", "F-1")
    (folder / "sub").mkdir()
    (folder / "sub" / "K-1.pdf").write_bytes(makers.pdf())
    facts = {"kind": "contract", "number": "K-1", "issue_date": "2026-09-01", "contract": "CARD-S-000123",
             "seller_siren": makers.SELLER}  # fmt: skip
    (folder / "sub" / "K-1.pdf.json").write_text(json.dumps(facts), "utf-8")
    (folder / "note.txt").write_text("no PDF", "utf-8")
    (folder / "bad.PDF").write_text("no PDF either", "utf-8")
    (folder / "other.pdf").write_bytes(makers.factur_x(makers.invoice_xml("F-1", total="121.00")))
    code, out, _ = gateway("submit", folder, "--json")
    results = {Path(one["file"]).name: one for one in json.loads(out)}
    assert code == 1
    assert set(results) == {"F-1.pdf", "K-1.pdf", "bad.PDF", "other.pdf"}
    assert results["K-1.pdf"]["outcome"] == "new"
    assert (results["bad.PDF"]["outcome"], bool(results["bad.PDF"]["reason"])) == ("refused", True)
    assert sorted(results[name]["outcome"] for name in ("F-1.pdf", "other.pdf")) == ["new", "quarantined"]
    code, out, _ = gateway("quarantine", "list", "--json")
    (waiting,) = json.loads(out)
    code, out, err = gateway("quarantine", "reject", waiting["id"], "--reason", "seen twice")
    assert (code, "withdrawn" in out) == (0, True), err


def test_submit_of_nothing_that_exists_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    """A misspelt name must not look like success."""
    code, _, err = gateway("submit", tmp_path / "missing.pdf")
    assert code == 1
    assert "no such file" in err


def test_a_gateway_that_is_full_is_asked_again_and_then_said_to_have_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A busy moment must not need a person."""
    import asyncio

    import httpx

    monkeypatch.setattr(submit, "_WAITS", (0.0, 0.0))
    answers = iter([503, 507, 201, 503, 503, 503])

    def answer(_: httpx.Request) -> httpx.Response:
        status = next(answers)
        body = {"id": "doc_1", "number": "N", "outcome": "new", "nature": None, "reason": ""}
        return httpx.Response(status, json=body if status == 201 else {"detail": "later", "code": "unavailable"})

    (tmp_path / "a.pdf").write_bytes(b"x")
    (tmp_path / "b.pdf").write_bytes(b"x")

    async def main() -> list[submit.Result]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://x") as client:
            return [
                (await submit.submit(Api(client), [tmp_path / name], lambda: None))[0] for name in ("a.pdf", "b.pdf")
            ]

    assert [result.outcome for result in asyncio.run(main())] == ["new", "failed"]


def test_what_came_from_outside_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A relay's reply or a file's name may hold escape sequences, or turn the text round."""
    item = {"id": "1", "last_reply": "550 \x1b]0;title\x07\x9b31m\u202eabc", "reason": "[bold red]x[/]"}
    show.table([item], {"id": "id", "last_reply": "reply", "reason": "reason"}, empty="")
    show.thing(item, wants_json=False)
    show.results([submit.Result("a\x1b[2J.pdf", "refused", reason="x\r\ny")], wants_json=False)
    out = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(out)
    assert "[bold red]x[/]" in out


def test_init_writes_settings_that_load_and_touches_nothing_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first command that anybody runs."""
    path, state_directory = tmp_path / "etc" / "gateway.toml", tmp_path / "var"
    places = ["--state", str(state_directory), "--spool", str(tmp_path / "spool")]
    monkeypatch.setattr(sys, "argv", ["gateway", "--config", str(path), "init", *places])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    settings = config.load(path)
    assert (settings.store.directory, settings.spool.directory) == (state_directory, tmp_path / "spool")
    assert stat.S_IMODE(state_directory.stat().st_mode) == 0o700
    secret = settings.mail.verp_secret_file
    assert secret is not None
    assert (stat.S_IMODE(secret.stat().st_mode), len(secret.read_bytes())) == (0o600, 32)
    before = path.read_bytes(), secret.read_bytes()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "exists" in capsys.readouterr().err
    assert (path.read_bytes(), secret.read_bytes()) == before


def test_init_for_development_says_what_is_insecure_on_the_screen_and_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing insecure silently; and what it makes passes `check` but for the seller, which is the user's to say."""
    path = tmp_path / "gateway.toml"
    monkeypatch.setattr(sys, "argv", ["gateway", "--config", str(path), "init", "--development"])
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().out
    assert said.count("DEVELOPMENT ONLY") == 3
    assert path.read_text("utf-8").count("# DEVELOPMENT ONLY") == 3
    settings = config.load(path)
    assert (settings.mail.relay_tls, settings.mail.relay_host) == ("off", "127.0.0.1")
    assert settings.ftps.enabled
    assert Identity.load(settings.ftps.certificate, settings.ftps.key).chain
    errors = [finding.where for finding in checks.check(settings) if finding.is_error]
    in_use = {"[http.listen]", "[sftp.listen]", "[ftps.listen]"}  # the default ports may be, here
    assert set(errors) <= {"[issuer.sellers]", *in_use}


def test_check_has_nothing_against_good_settings(tmp_path: Path) -> None:
    """A check that cries wolf is not read."""
    assert [finding for finding in checks.check(config.load(_good(tmp_path))) if finding.is_error] == []


def _good(folder: Path, **sections: dict[str, Any]) -> Path:
    if not (folder / "ca").exists():
        Authority.create(folder / "ca")
        secret = folder / "secret"
        secret.write_bytes(b"x" * 32)
        secret.chmod(0o600)
    ca = Authority(folder / "ca")
    seal = {"certificate": str(ca.seal.pkcs12), "password_file": str(ca.seal.password_file), "trust": [str(ca.root)]}
    mail = {"enabled": True, "certificate": str(ca.mail.pkcs12), "password_file": str(ca.mail.password_file),
            "trust": [str(ca.root)], "verp_secret_file": str(folder / "secret")}  # fmt: skip
    return _write(
        folder, **{"seal": seal | sections.pop("seal", {}), "mail": mail | sections.pop("mail", {}), **sections}
    )


@pytest.mark.parametrize(
    ("sections", "where", "what"),
    [
        ({"issuer": {"sellers": []}}, "[issuer.sellers]", "no seller"),
        ({"issuer": {"sellers": ["123456789"]}}, "[issuer.sellers]", "check digit"),
        ({"store": {"free_space_floor_percent": 99.9}}, "[store.free_space_floor_percent]", "refuses everything"),
        ({"store": {"database": "postgresql+psycopg://x@127.0.0.1:1/x"}}, "[store.database]", "does not answer"),
        ({"store": {"database": "mysql://x"}}, "[store.database]", "must begin with"),
        ({"seal": {"password_file": "{secret}"}}, "[seal.certificate]", "wrong password"),
        ({"seal": {"certificate": "none.p12"}}, "[seal.certificate]", "No such file"),
        ({"seal": {"trust": ["{secret}"]}}, "[seal.trust]", "no certificate in PEM"),
        ({"seal": {"level": "B-T"}}, "[seal.timestamp_url]", "needs an authority's"),
        ({"seal": {"level": "B-T", "timestamp_url": "ftp://x"}}, "[seal.timestamp_url]", "needs an authority's"),
        ({"mail": {"trust": ["{secret}"]}}, "[mail.trust]", "no certificate in PEM"),
        ({"mail": {"return_path_domain": "-a b"}}, "[mail.return_path_domain]", "not a domain name"),
        ({"store": {"directory": "{secret}"}}, "[store.directory]", "not a directory"),
        ({"store": {"directory": "{closed}"}}, "[store.directory]", "not writable"),
        ({"store": {"directory": "{closed}/below"}}, "[store.directory]", "does not exist, and"),
        ({"store": {"blobs": "ftp://bucket"}}, "[store.blobs]", "must be s3://"),
        ({"spool": {"enabled": True, "directory": "{closed}/spool"}}, "[spool.directory]", "not writable"),
        ({"spool": {"enabled": True, "directory": "{spool}"}}, "[spool.directory]", "not writable"),
        ({"mail": {"certificate": "{seal}", "password_file": "{seal_password}"}}, "[mail.certificate]", "From address"),
        (
            {"mail": {"certificate": "{seal}", "password_file": "{seal_password}"}},
            "[mail.certificate]",
            "two certificates",
        ),
        ({"mail": {"from_address": "other@gateway.example"}}, "[mail.certificate]", "From address"),
        ({"mail": {"verp_secret_file": "{short}"}}, "[mail.verp_secret_file]", "under 32"),
        ({"mail": {"verp_secret_file": "{open}"}}, "[mail.verp_secret_file]", "others may use it"),
        ({"mail": {"relay_tls": "off", "relay_host": "192.0.2.1"}}, "[mail.relay_tls]", "in clear"),
        ({"mail": {"username": "u"}}, "[mail.relay_password_file]", "missing"),
        ({"http": {"listen": "0.0.0.0:0"}}, "[http.listen]", "loopback only"),
        ({"http": {"listen": "nowhere"}}, "[http.listen]", "not host:port"),
        ({"sftp": {"listen": "127.0.0.1:{port}"}}, "[sftp.listen]", "in use"),
        ({"sftp": {"host_keys": ["{open}"]}}, "[sftp.host_keys]", "its owner alone"),
        ({"sftp": {"host_keys": ["{secret}"]}}, "[sftp.host_keys]", "no usable host key"),
        (
            {"http": {"listen": "127.0.0.1:{free}"}, "sftp": {"listen": "0.0.0.0:{free}"}},
            "[sftp.listen]",
            "the port of",
        ),
        (
            {"sftp": {"listen": "127.0.0.1:{free}"}, "sftp_legacy": {"enabled": True, "listen": "127.0.0.1:{free}"}},
            "[sftp_legacy.listen]",
            "the port of",
        ),
    ],
)
def test_check_finds_what_is_wrong_and_names_the_key(
    tmp_path: Path, sections: dict[str, dict[str, Any]], where: str, what: str
) -> None:
    """Each line is one way that a first start goes wrong."""
    (tmp_path / "state").mkdir(mode=0o700)
    ca = Authority(tmp_path / "ca")
    _good(tmp_path)
    for name, size, mode in (("short", 8, 0o600), ("open", 40, 0o644)):
        (tmp_path / name).write_bytes(b"x" * size)
        (tmp_path / name).chmod(mode)
    for name in ("closed", "spool/new"):
        (tmp_path / name).mkdir(parents=True, mode=0o500)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        free = server.getsockname()[1]
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        places = {"closed": tmp_path / "closed", "spool": tmp_path / "spool", "free": free,
                  "secret": tmp_path / "secret", "seal": ca.seal.pkcs12, "seal_password": ca.seal.password_file,
                  "short": tmp_path / "short", "open": tmp_path / "open", "port": taken.getsockname()[1]}  # fmt: skip
        filled = {
            name: {key: _filled(value, places) for key, value in values.items()} for name, values in sections.items()
        }
        found = checks.check(config.load(_good(tmp_path, **filled)))
    assert any(one.is_error and one.where == where and what in one.what for one in found), found


def _filled(value: Any, places: dict[str, object]) -> Any:
    if isinstance(value, list):
        return [_filled(one, places) for one in value]
    return value.format(**places) if isinstance(value, str) else value


def test_check_warns_of_the_name_that_nobody_chose(tmp_path: Path) -> None:
    """Every client would read "Issuer" in its mails."""
    for name, warned in (("Issuer", True), ("Fonderie", False)):
        found = checks.check(config.load(_good(tmp_path, issuer={"name": name})))
        assert any(one.where == "[issuer.name]" and not one.is_error for one in found) is warned


def test_check_warns_of_originals_through_the_gateway_since_the_platforms_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 2026-09-01 on, most domestic invoices go through an approved platform."""
    import datetime as dt

    from gateway import clock

    settings = config.load(_good(tmp_path))
    for day, expected in (
        (dt.datetime(2026, 8, 31, 12, tzinfo=dt.UTC), 0),
        (dt.datetime(2026, 8, 31, 22, tzinfo=dt.UTC), 1),
    ):
        monkeypatch.setattr(clock, "now", lambda day=day: day)
        found = [one for one in checks.check(settings) if one.where == "[issuer.original_channel]"]
        assert len(found) == expected, "the day is the issuer's: 22:00 UTC is the next one in Paris"


def test_check_and_status_say_that_no_key_signs_manifests(gateway: Gateway, settings_file: Path) -> None:
    """Without it nothing proves that nothing is missing."""
    found = [one.what for one in checks.check(config.load(settings_file)) if one.where == "[seal.certificate]"]
    assert len(found) == 1 and "no manifest signed" in found[0]
    code, out, err = gateway("status")
    assert code == 0 and "manifests: no manifest is signed: no certificate is configured" in out, out + err


def test_check_says_when_a_certificate_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A7: warned before, an error after."""
    import datetime as dt

    from gateway import clock

    settings = config.load(_good(tmp_path))
    start = clock.now()
    for days, level in ((100, None), (700, "warning"), (800, "error")):
        monkeypatch.setattr(clock, "now", lambda days=days: start + dt.timedelta(days=days))
        found = [one for one in checks.check(settings) if one.where == "[seal.certificate]"]
        assert [one.level for one in found] == ([level] if level else []), days
        assert all("no manifest is signed" in one.what for one in found if one.level == "warning")


def test_a_permit_of_the_legacy_listener_is_given_and_check_says_when_it_ends(
    gateway: Gateway, settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener that nobody may use, and a client that will be locked out in a week: both are said before."""
    _set_up(gateway)
    monkeypatch.setenv("GATEWAY__SFTP_LEGACY__ENABLED", "true")

    def said() -> list[str]:
        found = checks.check(config.load(settings_file))
        return [one.what for one in found if one.where == "[sftp_legacy.enabled]" and not one.is_error]

    assert len(said()) == 1 and "nobody has a permit" in said()[0]
    code, _, err = gateway("permit", "add", "Apuron", "--reason", "old ERP")
    assert code == 1 and "gateway settings networks" in err
    assert gateway("settings", "networks", "Apuron", "192.0.2.0/24")[0] == 0
    code, out, err = gateway("permit", "add", "Apuron", "--reason", "old ERP", "--days", "60", "--json")
    assert (code, err) == (0, "")
    assert said() == []
    assert gateway("permit", "add", "Apuron", "--reason", "old ERP", "--days", "7")[0] == 0
    assert len(said()) == 1 and "ends in 6 days" in said()[0]
    monkeypatch.setenv("GATEWAY__SFTP_LEGACY__ENABLED", "false")
    code, _, err = gateway("permit", "add", "Apuron", "--reason", "old ERP", "--json")
    assert code == 0 and "[sftp_legacy] enabled = true" in err  # else it is given in vain, and nobody knows why
    assert gateway("permit", "revoke", "Apuron", json.loads(out)["id"])[0] == 0
    code, out, _ = gateway("permit", "list", "Apuron", "--json")
    assert [one["revoked_at"] is None for one in json.loads(out)] == [False, True, True]


def test_keys_are_added_listed_and_revoked(gateway: Gateway, tmp_path: Path) -> None:
    """The administrator's daily work, by the client's name."""
    _set_up(gateway)
    public = tmp_path / "id.pub"
    public.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_public_key())
    code, out, err = gateway("key", "add", "Apuron", public, "--label", "ERP", "--days", "400", "--json")
    assert code == 0 and json.loads(out)["expires_at"] > json.loads(out)["created_at"], err
    key = json.loads(out)["id"]
    assert "ERP" in gateway("key", "list", "Apuron")[1]
    assert gateway("key", "revoke", "Apuron", key)[0] == 0
    code, out, _ = gateway("key", "list", "Apuron", "--json")
    assert json.loads(out)[0]["revoked_at"] is not None
    assert gateway("key", "list", "Nobody")[0] == 1


def test_accounts_of_the_billing_system_are_listed_apart(gateway: Gateway) -> None:
    """A list of clients is one of clients, where it is asked for so."""
    for words in (["Apuron"], ["Billing", "--intake"]):
        assert gateway("client", "add", *words)[0] == 0
    for words, names in (([], ["Apuron", "Billing"]), (["--intake"], ["Billing"]), (["--no-intake"], ["Apuron"])):
        assert [one["name"] for one in json.loads(gateway("client", "list", *words, "--json")[1])] == names


def test_settings_tokens_and_lists_have_json(gateway: Gateway) -> None:
    """`--json` on everything that prints a table."""
    client = _set_up(gateway)
    code, out, err = gateway("settings", "set", client, "--email", "a@apuron.example", "--format", "pdf", "--json")
    assert (code, json.loads(out)["email"]["addresses"]) == (0, ["a@apuron.example"]), err
    code, out, _ = gateway("token", "create", "erp", "--scope", f"client:{client}", "--days", "30", "--json")
    assert json.loads(out)["token"].startswith("gw_")
    for words in (["client", "list"], ["company", "list"], ["contract", "list"], ["subscription", "list", client],
                  ["settings", "show", client], ["token", "list"], ["queue"], ["queue", "list"], ["status"],
                  ["quarantine", "list"], ["key", "list", client], ["check"]):  # fmt: skip
        code, out, err = gateway(*words, "--json")
        json.loads(out)
        code, out, err = gateway(*words)
        assert "Traceback" not in out + err, words


def test_a_token_of_a_client_is_made_by_its_name_too(gateway: Gateway) -> None:
    """A name that nobody has, and no name, say what to write."""
    client = _set_up(gateway)
    code, out, err = gateway("token", "create", "erp", "--scope", "client:apuron", "--json")
    assert (code, json.loads(out)["scope"]) == (0, f"client:{client}"), err
    for scope, said in (("client:Nobody", "gateway client list"), ("client:", "client:<id>"), ("cli_1", "client:<id>")):
        code, _, err = gateway("token", "create", "erp", "--scope", scope)
        assert code == 1 and said in err, scope


def test_a_dry_run_is_begun_or_ended_in_words(gateway: Gateway) -> None:
    """Who only wants to know whether one goes on must not stop a client's invoices."""
    client = _set_up(gateway)
    code, _, err = gateway("client", "dry-run", client)
    assert code == 2 and "--on" in err
    for word, dry in (("--on", True), ("--off", False)):
        assert gateway("client", "dry-run", client, word)[0] == 0
        assert json.loads(gateway("client", "list", "--json")[1])[0]["dry_run"] is dry


def test_a_third_password_is_refused_with_what_to_do(gateway: Gateway) -> None:
    """The one to come and the one to go are all that a folder needs."""
    _set_up(gateway)
    assert [gateway("password", "add", "Apuron")[0] for _ in range(2)] == [0, 0]
    code, out, err = gateway("password", "add", "Apuron")
    assert (code, out) == (1, "") and "revoke one first (gateway password list" in err


def test_a_path_map_is_shown_as_it_is_typed(gateway: Gateway) -> None:
    """Four paths in a row would not say which is which."""
    _set_up(gateway)
    pairs = ("/out/factures=/inbox", "/out/old=/archive")
    code, out, err = gateway("settings", "path-map", "Apuron", *pairs)
    assert code == 0 and ", ".join(pairs) in out, err


def test_migrate_makes_the_newest_schema(gateway: Gateway, tmp_path: Path) -> None:
    """And has nothing to do the second time."""
    code, out, err = gateway("migrate")
    assert (code, out.startswith("schema none -> ")) == (0, True), err
    newest = out.split()[-1]
    code, out, err = gateway("migrate")
    assert (code, out) == (0, f"schema {newest} -> {newest}\n"), err


def test_openapi_needs_no_settings(gateway: Gateway, settings_file: Path) -> None:
    """It describes the program, not an installation."""
    settings_file.unlink()
    code, out, _ = gateway("openapi")
    assert (code, json.loads(out)["openapi"][:3]) == (0, "3.1")
