"""How OpenSSH's ssh is told to take our key and our known host key, and nothing of this machine's."""

HOST = "127.0.0.1"
PINNED = (
    "-F", "none", "-o", "UserKnownHostsFile=known_hosts", "-o", "StrictHostKeyChecking=yes",
    "-o", "IdentitiesOnly=yes", "-i", "id", "-o", "BatchMode=yes",
)  # fmt: skip
