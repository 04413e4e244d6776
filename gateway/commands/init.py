"""`gateway init`: an annotated configuration and a state directory to start from; nothing that exists is touched.

`--development` adds a certificate authority of its own and settings for a mail server on loopback. Each of these is
said to be for development only, in the file and on the screen: nothing insecure is set silently.
"""

import json
import os
import secrets
from pathlib import Path

from .. import config
from ..errors import Conflict
from .check_keys import VERP_BYTES

_DEVELOPMENT = "DEVELOPMENT ONLY: "


def init(path: Path, state_directory: Path, spool: Path | None, *, development: bool) -> list[str]:
    """Write the configuration file `path` and make the state directory; what was done and what to do, in lines.

    `spool`: where it is, else in the state directory. Conflict when the file exists.
    """
    if path.exists():
        raise Conflict(f"{path} exists: it is not overwritten; edit it, or name another with --config")
    state_directory = state_directory.absolute()
    state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = _verp_secret(state_directory)
    values: dict[str, dict[str, object]] = {
        "store": {"directory": str(state_directory)},
        "mail": {"verp_secret_file": str(secret)},
    }
    values["spool"] = {"directory": str((spool or state_directory / "spool").absolute())}
    said = [f"{state_directory}: state directory, mode 0700", f"{secret}: secret that marks our bounces, mode 0600"]
    notes: dict[str, str] = {}
    if development:
        notes = _development(values, state_directory / "development")
        said += [f"{_DEVELOPMENT}{note}" for note in notes.values()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_filled(config.example(), values, notes), "utf-8")
    return [
        f"{path}: settings, each explained; [issuer.sellers] is yours to fill in",
        *said,
        f"next: gateway --config {path} check",
    ]


def _verp_secret(directory: Path) -> Path:
    """An existing secret is kept: bounces of mail that has left are known by it."""
    path = directory / "verp.secret"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return path
    with os.fdopen(fd, "wb") as file:
        file.write(secrets.token_bytes(VERP_BYTES))
    return path


def _development(values: dict[str, dict[str, object]], directory: Path) -> dict[str, str]:
    """Fill in keys of a throw-away authority and a relay in clear on loopback; what is insecure about each section."""
    from ..demo.authority import Authority

    authority = Authority(directory) if Authority(directory).root.exists() else Authority.create(directory)
    for section, credential in (("seal", authority.seal), ("mail", authority.mail)):
        values.setdefault(section, {}).update(
            certificate=str(credential.pkcs12),
            password_file=str(credential.password_file),
            trust=[str(authority.root)],
        )
    values["mail"] |= {"relay_tls": "off", "relay_port": 2525}
    certificate, key = authority.tls_certificate, authority.tls_key
    values["ftps"] = {"enabled": True, "certificate": str(certificate), "key": str(key)}
    return {
        "seal": f"the seal is by a certificate authority made in {directory}: nobody trusts it",
        "mail": "mail is signed by the same authority and goes in clear to 127.0.0.1:2525",
        "ftps": f"the certificate of FTPS is by the same authority, whose root is {authority.root}",
    }


def _filled(example: str, values: dict[str, dict[str, object]], notes: dict[str, str]) -> str:
    """The annotated example with these settings filled in and these notes under their sections' headings."""
    lines, section = [], ""
    for line in example.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        key = line.removeprefix("#").partition(" = ")[0]
        if line.startswith("#") and key in values.get(section, {}):
            lines.append(f"{key} = {json.dumps(values[section][key])}")
            continue
        lines.append(line)
        if line.startswith("[") and section in notes:
            lines.append(f"# {_DEVELOPMENT}{notes[section]}")
    return "\n".join(lines) + "\n"
