"""Tell systemd how the daemon is (sd_notify(3)): READY=1, STOPPING=1, RELOADING=1, WATCHDOG=1, STATUS=…

Without NOTIFY_SOCKET in the environment nothing is said. The protocol is one datagram; a library would add nothing.
"""

import os
import socket
import time


def notify(state: str) -> None:
    """Send one state, for example `READY=1`; a service manager that is gone is no error."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.connect(address)
            sender.sendall(state.encode())
        except OSError:
            return


def reloading() -> None:
    """RELOADING=1 with the monotonic time that Type=notify-reload asks for."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_seconds() -> float | None:
    """Half the interval that systemd waits for a sign of life; None when it waits for none."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    if not microseconds or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 2_000_000
