"""An inbox over FTPS with Python's ftplib: ftplib_client.py HOST PORT USER list|pull|resume|rename|remove [NAME…]."""

import ftplib
import os
import ssl
import sys
from pathlib import Path

host, port, user, verb, *names = sys.argv[1:]
context = ssl.create_default_context(cafile="authority.pem")
with ftplib.FTP_TLS(context=context, timeout=60) as ftp:
    ftp.connect(host, int(port))
    ftp.login(user, Path("password").read_text())
    ftp.prot_p()
    ftp.cwd("/inbox")
    if verb == "list":
        print("\n".join(name for name, facts in ftp.mlsd() if facts["type"] == "file"))
    elif verb == "pull":
        for name in names:
            with open(f"here/{name}", "wb") as local:
                ftp.retrbinary(f"RETR {name}", local.write)
    elif verb == "resume":
        with open(f"here/{names[0]}", "ab") as local:
            ftp.retrbinary(f"RETR {names[0]}", local.write, rest=os.path.getsize(local.name))
    elif verb == "rename":
        ftp.rename(names[0], names[1])
    elif verb == "remove":
        for name in names:
            ftp.delete(name)
