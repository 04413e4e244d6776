"""An inbox over SFTP with asyncssh: asyncssh_client.py HOST PORT USER list|pull|resume|rename|remove [NAME…]."""

import asyncio
import os
import sys

import asyncssh


async def main(host: str, port: str, user: str, verb: str, *names: str) -> None:
    async with (
        asyncssh.connect(
            host, int(port), username=user, client_keys=["id"], known_hosts="known_hosts", agent_path=None, config=None
        ) as connection,
        connection.start_sftp_client() as sftp,
    ):
        await sftp.chdir("/inbox")
        if verb == "list":
            print("\n".join(await sftp.listdir()))
        elif verb == "pull":
            await sftp.get(list(names), "here/", preserve=True)
        elif verb == "resume":
            with open(f"here/{names[0]}", "ab") as local:
                async with sftp.open(names[0], "rb") as remote:
                    await remote.seek(os.path.getsize(local.name))
                    while part := await remote.read(1 << 20):
                        local.write(part)  # type: ignore[arg-type]
        elif verb == "rename":
            await sftp.rename(names[0], names[1])
        elif verb == "remove":
            for name in names:
                await sftp.remove(name)


asyncio.run(main(*sys.argv[1:]))
