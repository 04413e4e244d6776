"""What scanners see: TLS as Mozilla's intermediate list wants it, and nothing that nmap's scripts report.

`make scan` runs sslyze besides, in an environment of its own: it needs an older cryptography than the gateway.
"""

import asyncio
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.blobs import LocalBlobs
from tests.dropfolder.world import World, on_sqlite
from tests.peers import program, requires
from tests.servers import sftp_world
from tests.servers.ftps_world import Listener, listening

# Mozilla's intermediate list, guidelines 5.7, in OpenSSL's words; the gateway leaves out its two ciphers with DHE.
TLS_1_2 = {
    f"ECDHE-{key}-{cipher}"
    for key in ("ECDSA", "RSA")
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
}
TLS_1_3 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
ANYTHING = "ALL:COMPLEMENTOFALL@SECLEVEL=0"


@pytest.fixture(scope="module")
def ftps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    folder = tmp_path_factory.mktemp("scans")
    # A scanner opens many connections that never log in.
    limits = {"connections_before_login_per_source": 100}
    with on_sqlite(folder) as world, listening(world, folder, limits) as listener:
        yield listener


class Handshakes:
    """openssl's client against one port; what it says of the handshake, empty when there was none."""

    def __init__(self, listener: Listener, *, implicit: bool) -> None:
        self._roots = listener.certificate
        port = listener.implicit_port if implicit else listener.port
        self._to = ["-connect", f"localhost:{port}", *([] if implicit else ["-starttls", "ftp"])]

    def __call__(self, *options: str) -> str:
        command = [program("openssl"), "s_client", *self._to, "-CAfile", str(self._roots), *options]
        done = subprocess.run(command, input="QUIT\r\n", capture_output=True, text=True, timeout=30, check=False)
        found = re.search(r"New, (TLSv1\.\d), Cipher is (\S+)", done.stdout)
        return done.stdout if found else ""


@pytest.fixture(params=["explicit", "implicit"])
def handshake(request: pytest.FixtureRequest, ftps: Listener) -> Handshakes:
    return Handshakes(ftps, implicit=request.param == "implicit")


def ciphers_of(version: str) -> list[str]:
    """What this OpenSSL could offer, the broken ones too."""
    command = [program("openssl"), "ciphers", "-s", f"-{version}", ANYTHING]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split(":")


@requires("openssl")
def test_nothing_older_than_tls_1_2_is_spoken(handshake: Handshakes) -> None:
    """RFC 8996: TLS 1.0 and 1.1 are no more."""
    for version in ("-tls1", "-tls1_1"):
        assert not handshake(version, "-cipher", ANYTHING)
    assert "TLSv1.2" in handshake("-tls1_2") and "TLSv1.3" in handshake("-tls1_3")


@requires("openssl")
def test_each_cipher_that_is_taken_is_on_the_list(handshake: Handshakes) -> None:
    """One handshake for each that this OpenSSL knows; those of the other kind of key cannot be taken."""
    taken = [one for one in ciphers_of("tls1_2") if handshake("-tls1_2", "-cipher", f"{one}:@SECLEVEL=0")]
    assert taken and set(taken) <= TLS_1_2
    assert {one for one in TLS_1_3 if handshake("-tls1_3", "-ciphersuites", one)} == set(TLS_1_3)
    for one in ("TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"):
        assert not handshake("-tls1_3", "-ciphersuites", one)


@requires("openssl")
def test_the_curves_are_those_of_the_list(handshake: Handshakes) -> None:
    """No other is taken, in either version. In TLS 1.2 the key of the certificate needs its own besides."""
    assert handshake("-tls1_3", "-groups", "prime256v1")
    for curve in ("X25519", "secp384r1"):
        assert handshake("-tls1_3", "-groups", curve)
    assert "X25519" in _temporary_key(handshake("-tls1_2", "-groups", "secp384r1:prime256v1:X25519"))
    for curve in ("secp521r1", "X448"):
        assert not handshake("-tls1_3", "-groups", curve)
        assert "prime256v1" in _temporary_key(handshake("-tls1_2", "-groups", f"{curve}:prime256v1"))


def _temporary_key(said: str) -> str:
    found = re.search(r"(?:Server|Peer) Temp Key: (.*)", said)
    assert found is not None, said
    return found[1]


@requires("openssl")
def test_the_chain_verifies_for_its_name_alone(handshake: Handshakes) -> None:
    """Chain and name; compression, renegotiation and early data do not exist."""
    said = handshake("-verify_return_error", "-verify_hostname", "localhost")
    assert "Verify return code: 0 (ok)" in said
    assert "Compression: NONE" in said and "Early data was not sent" in said
    assert "Secure Renegotiation IS supported" in handshake("-tls1_2")  # RFC 5746: that it is safe, not that it is done
    assert "hostname mismatch" in handshake("-verify_hostname", "elsewhere.example")


def nmap(port: int, scripts: str, *options: str) -> str:
    """What its scripts report of a port."""
    command = [program("nmap"), "-Pn", "-n", "-p", str(port), "--script", scripts, *options, "127.0.0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert f"{port}/tcp open" in done.stdout, done.stdout
    return done.stdout


@requires("nmap")
def test_nmap_s_ftp_scripts_report_nothing(ftps: Listener) -> None:
    """No anonymous log-in, no bounce, none of the known holes, and nothing said of the session before the log-in."""
    scripts = "ftp-anon ftp-bounce ftp-libopie ftp-proftpd-backdoor ftp-syst ftp-vsftpd-backdoor ftp-vuln-cve2010-4221"
    said = nmap(ftps.port, ",".join(f"+{one}" for one in scripts.split()))  # +: whatever the port is called
    assert "| " not in said and "|_" not in said, said


@requires("nmap")
def test_nmap_gives_tls_the_best_grade(ftps: Listener) -> None:
    """On the listener where TLS comes first; what the other one takes is asked for above."""
    assert re.findall(r"least strength: (\S+)", nmap(ftps.implicit_port, "+ssl-enum-ciphers")) == ["A"]


@requires("nmap")
def test_nmap_s_ssh_scripts_see_modern_algorithms(tmp_path: Path, blobs: LocalBlobs) -> None:
    """No protocol 1, no SHA-1, no CBC; keys are the only way in."""

    async def scan(world: World) -> str:
        async with sftp_world.listening(world, tmp_path, connections_before_login_per_source=100) as listener:
            return await asyncio.to_thread(nmap, listener.port, "+ssh2-enum-algos,+ssh-auth-methods,+sshv1")

    with on_sqlite(tmp_path, blobs) as world:
        said = asyncio.run(scan(world))
    assert "supports SSHv1" not in said
    assert not re.findall(r"sha1\b|-cbc|arcfour|3des|ssh-dss|md5|group1-", said), said
    methods = re.search(r"Supported authentication methods: *\n((?:\|_? {4}\S+\n)+)", said)
    assert methods is not None and re.findall(r"[a-z]\S+", methods[1]) == ["publickey"], said
