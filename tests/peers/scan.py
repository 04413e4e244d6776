"""`make scan`: sslyze against both FTPS listeners, by Mozilla's intermediate list; its status is ours.

`python -m tests.peers.scan SSLYZE`: the program lives in an environment of its own, for it needs an older cryptography
than the gateway. The certificate is made for the run, so its root is given to the scanner.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.dropfolder.world import on_sqlite
from tests.servers.ftps_world import listening

MANY = {"connections_before_login_per_source": 100}  # a scanner opens many that never log in


def main(sslyze: str) -> int:
    """0: both listeners comply."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with on_sqlite(folder) as world, listening(world, folder, MANY) as listener:
            command = [sslyze, "--mozilla_config", "intermediate", "--certinfo_ca_file", str(listener.certificate)]
            explicit = subprocess.run([*command, "--starttls", "ftp", f"localhost:{listener.port}"], check=False)
            implicit = subprocess.run([*command, f"localhost:{listener.implicit_port}"], check=False)
    return explicit.returncode or implicit.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
