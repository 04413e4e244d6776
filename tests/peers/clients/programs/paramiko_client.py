"""An inbox over SFTP with paramiko: paramiko_client.py HOST PORT USER list|pull|resume|rename|remove [NAME…]."""

import os
import sys
import warnings

warnings.simplefilter("ignore")
import paramiko  # noqa: E402

host, port, user, verb, *names = sys.argv[1:]
client = paramiko.SSHClient()
client.load_host_keys("known_hosts")
client.set_missing_host_key_policy(paramiko.RejectPolicy())
client.connect(host, int(port), user, key_filename="id", allow_agent=False, look_for_keys=False)
sftp = client.open_sftp()
sftp.chdir("/inbox")
if verb == "list":
    print("\n".join(sftp.listdir()))
elif verb == "pull":
    for name in names:
        sftp.get(name, f"here/{name}")
elif verb == "resume":
    with open(f"here/{names[0]}", "ab") as local, sftp.open(names[0]) as remote:
        remote.seek(os.path.getsize(local.name))
        remote.prefetch(remote.stat().st_size)
        while part := remote.read(32768):
            local.write(part)
elif verb == "rename":
    sftp.rename(names[0], names[1])
elif verb == "remove":
    for name in names:
        sftp.remove(name)
client.close()
