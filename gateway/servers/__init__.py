"""The protocols that clients and mail servers speak to the gateway: protocol on one side, calls on the other.

A server knows its standard, its limits and one table from our errors to its own; what a folder or a message means is
decided below. Everything here runs on the event loop and may only touch memory and local files there; a call that
can wait for the database goes to the named pool that the server was given.

sftpd.py            the SFTP listener: start, limits, sweeps, drain, stop
sftp_connection.py  one SSH connection: log-in by public key, nothing but the sftp subsystem
sftp_channel.py     one SFTP channel: requests in order, back-pressure, what its end means
sftp_engine.py      SFTP version 3 without I/O: a request in, an answer out
sftp_packets.py     the bytes of SFTP version 3
ssh_keys.py         algorithms that are offered, host keys
limits.py           how many connections, from where, of whom
"""
