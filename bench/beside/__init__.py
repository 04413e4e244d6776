"""What the benchmarks of the listeners share: servers side by side on the same files, and what each of them costs.

tree.py     a server with all its processes: CPU seconds, memory
state.py    the gateway's folders, filled straight into its store; the same files in a directory
servers.py  the gateway, OpenSSH and vsftpd, started on free ports of the loopback
clients.py  OpenSSH's sftp kept open and told what to do; ftp_clients.py: ftplib, lftp
report.py   ratios within a round, medians over the rounds, BENCH lines

Rates swing on a busy machine: a ratio is taken within one round, CPU seconds of the server first.
"""
