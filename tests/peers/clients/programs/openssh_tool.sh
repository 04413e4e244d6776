#!/bin/sh
# sftp, scp or ssh for OpenSSH's regress scripts: what lies in $OBJ goes to the sandbox, the program runs against the
# gateway, and what it changed there comes back. Their own server (-D) and their own way to it (-S) are left out.
tools=$(dirname "$0") tool=$(basename "$0") config=$(dirname "$0")/ssh_config host='' left=$#
while [ "$left" -gt 0 ]; do
  arg=$1 taken=2
  case $tool$arg in
  sftp-D) host=somehost ;;
  scp-D | sftp-S | scp-S) ;;
  *-F) config=$2 ;;
  *-F*) config=${arg#-F} taken=1 ;;
  *) taken=1 && set -- "$@" "$arg" ;;
  esac
  shift "$taken"
  left=$((left - taken))
done
[ "$tool" = ssh ] || { echo up >"$tools/ask" && read -r _ <"$tools/answer"; }
"$tool" -F "$config" "$@" $host
status=$?
[ "$tool" = ssh ] || { echo down >"$tools/ask" && read -r _ <"$tools/answer"; }
exit "$status"
