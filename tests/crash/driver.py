"""Run the daemon with its kill points: `python -m tests.crash.driver CONFIG`; kill.py says what the environment holds.

One line on standard output, once it is ready: JSON with where HTTP and SFTP listen.
"""

import json
import sys
from pathlib import Path

import uvloop

from gateway import daemon
from tests.crash import kill


def _say(addresses: daemon.Addresses) -> None:
    print(json.dumps({"http": addresses.http, "sftp": addresses.sftp}), flush=True)


if __name__ == "__main__":
    kill.install()
    uvloop.run(daemon.serve(Path(sys.argv[1]), _say))
