"""OpenSSH's own sftp and scp scripts, from a checkout of its sources (`make test-openssh OPENSSH=DIR`).

Its sources are no package, so that CI runs what they ask in our own words (test_openssh_regress.py). What cannot pass
is listed with the reason, as patterns of what the scripts say; all else must.
"""

import os
import re
from pathlib import Path

import pytest

from tests.peers import requires
from tests.peers.clients.inbox import Stock
from tests.peers.clients.station import opened
from tests.peers.openssh_originals import outcome
from tests.peers.test_clients import stock

__all__ = ["stock"]
pytestmark = requires("sftp")
_LINKS = "there are no links, so that no path leads out of the home"
_OPTIONS = "what an account may do is the gateway's to say: there are no options of sftp-server"
_OLD_SCP = "the old protocol of scp runs a shell's command; it is refused, with a message that names SFTP"
CANNOT: dict[str, dict[str, str]] = {
    "sftp.sh": {},
    "sftp-cmds.sh": {"ln": _LINKS},
    "sftp-batch.sh": {"good commands": "it removes what it has just got, which only a server on its own disk has too"},
    "sftp-badcmds.sh": {},
    "sftp-glob.sh": {},
    "sftp-uri.sh": {},
    "sftp-perm.sh": {
        ".*(read-only|blacklisted|no whitelist) .* succeeded": _OPTIONS,
        ".*postcondition.* (readonly|blacklisted|not in whitelist)": _OPTIONS,
        ".*setstat (no-readonly|no white/blacklists|whitelisted)": "a mode is accepted, and changes nothing",
        ".*(symlink|hardlink)": _LINKS,
    },
    "scp.sh": {"scp mode": _OLD_SCP},
    "scp3.sh": {"scp mode": _OLD_SCP},
    "scp-uri.sh": {"scp mode": _OLD_SCP},
}


@pytest.mark.parametrize("script", CANNOT)
def test_openssh_s_own_scripts_pass_but_for_what_cannot(script: str, stock: Stock, tmp_path: Path) -> None:
    """What OpenSSH expects of a server is what scripts around its client expect."""
    if not os.environ.get("OPENSSH"):
        pytest.skip("a checkout of OpenSSH's sources: OPENSSH names none here")
    with opened(stock, tmp_path) as station:
        steps, failed = outcome(Path(os.environ["OPENSSH"], "regress"), station, script)
    assert len(steps) >= 4, "they were not run"
    unexplained = [line for line in failed if not any(_says(line, what) for what in CANNOT[script])]
    assert not unexplained
    assert all(any(_says(line, what) for line in failed) for what in CANNOT[script]), "the list is longer than needed"


def _says(line: str, what: str) -> bool:
    """Behind the script's own title, with which each line begins."""
    return re.match(rf"[^:]*: (?:{what})", line) is not None
