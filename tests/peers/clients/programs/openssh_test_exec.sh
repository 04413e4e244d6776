# What OpenSSH's regress/test-exec.sh gives its scripts, with the gateway in the place of sshd and sftp-server:
# sh openssh_test_exec.sh OBJ TOOLS SCRIPT. Each step and each failure is a line.
OBJ=$1 TOOLS=$2 SCRIPT=$3
SRC=$(dirname "$SCRIPT")
DATA=$OBJ/data DATANAME=data COPY=$OBJ/copy
SSH=$TOOLS/ssh SFTP=$TOOLS/sftp SCP=$TOOLS/scp SFTPSERVER=$TOOLS/server
TEST_SHELL=sh TEST_SHELL_PATH=sh TEST_SSH_LOGFILE=$OBJ/ssh.log EXEEXT='' SUDO='' STEP=''
export OBJ SSH SFTP SCP

verbose() { STEP="$*"; echo "STEP $STEP"; }
trace() { :; }
fail() { echo "FAIL $STEP: $*"; }
fatal() { fail "$@"; exit 1; }
skip() { echo "SKIP $*"; exit 0; }
config_defined() { return 1; }
start_sshd() { :; }
stop_sshd() { :; }
maybe_add_scp_path_to_sshd() { :; }

cd "$OBJ" && . "$SCRIPT"
echo END
