"""What the commands of cli.py do, apart from their options: reach the daemon, check, set up, submit, print."""
