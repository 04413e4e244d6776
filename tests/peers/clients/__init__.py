"""The programs and libraries that clients pull their drop folder with, each asked to do the same night's work.

inbox.py      5,000 documents, published once and copied for every client
station.py    a client's directory, and the listeners with such an inbox behind them
driver.py     what a client can be asked for; one module a family of programs: openssh.py, transfer.py (lftp, curl),
              rclone.py, sshfs.py, putty.py, libraries.py (paramiko, asyncssh, ftplib, Node), jsch.py (Java)
page.py       docs/clients.md from a run: `python -m tests.peers.clients`
night.py      the night's work and what must be true after each step of it
"""

from tests.peers.clients.driver import Driver
from tests.peers.clients.jsch import Jsch
from tests.peers.clients.libraries import Asyncssh, Ftplib, Node, Paramiko
from tests.peers.clients.openssh import Scp, Sftp
from tests.peers.clients.putty import Psftp
from tests.peers.clients.rclone import RcloneFtps, RcloneSftp
from tests.peers.clients.sshfs import Sshfs
from tests.peers.clients.transfer import CurlFtps, CurlSftp, LftpFtps, LftpSftp

CLIENTS: tuple[type[Driver], ...] = (
    Sftp, Scp, LftpSftp, CurlSftp, RcloneSftp, Sshfs, Psftp, Paramiko, Asyncssh, Node, Jsch,
    LftpFtps, CurlFtps, RcloneFtps, Ftplib,
)  # fmt: skip
