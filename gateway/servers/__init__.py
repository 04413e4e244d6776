"""The protocols that clients and mail servers speak to the gateway: protocol on one side, calls on the other.

A server knows its standard, its limits and one table from our errors to its own; what a folder or a message means is
decided below. SFTP and HTTP run on the event loop and may only touch memory and local files there; a call that can
wait for the database goes to the named pool that the server was given. FTPS keeps the same line, on a loop of its own.

sftpd.py            the SFTP listener: start, limits, sweeps, drain, stop
sftp_connection.py  one SSH connection: log-in by key or password, nothing but the sftp subsystem
sftp_channel.py     one SFTP channel: requests in order, back-pressure, what its end means
sftp_engine.py      SFTP version 3 without I/O: a request in, an answer out
sftp_packets.py     the bytes of SFTP version 3
ssh_algorithms.py   what each SFTP listener offers, the main one and the legacy one
ssh_keys.py         host keys: which serve, which are announced
host_key_files.py   where they lie, how they come in, and how one takes over from another
host_key_proofs.py  clients learn the keys that are to come
ssh_transport.py    asyncssh's connection with less work for each packet
ssh_window.py       how much of what was sent a client has taken
ftpsd.py            the FTPS listeners: start, sweeps, drain, stop
ftps_loop.py        the thread of all FTPS sessions, and what they do that may wait
ftps_control.py     one FTPS session: commands in, replies out
ftps_login.py       its TLS and log-in
ftps_transfers.py   its data connections: awaited, made, aborted
ftps_commands.py    what its commands do to the folder
ftps_passive.py     the port where a data connection is awaited
ftps_data.py        one data connection, and whether what it carried arrived
ftps_cargo.py       what goes over it: a download, a listing, an upload
ftps_tls.py         certificate, ciphers, a context for each session
long_name.py        a line as of `ls -l`, for both
limits.py           how many connections, from where, of whom
penalties.py        what failed log-ins cost their source
failures.py         what failed, on its way to the database
causes.py           why, in plain words
"""
