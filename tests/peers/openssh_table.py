"""What OpenSSH's own tests ask of a server, script by script, in our own words; docs/openssh.md is made of it.

A step begins with a directory of its own on either side: `data`, `lx`, `ly` and `box/inside` here; `data`, `rx`, `ry`
and `box/inside` in a folder of the sandbox, where sftp is. All hold the same bytes; `long` there holds them twice.
`python -m tests.peers.openssh_table` prints the page.
"""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "openssh.md"
_NO_LINKS = "there are no links here, so that no path leads out of the home"
_MODES = "a mode is accepted, since programs send it after each transfer, and changes nothing"
_PLACES = "what an account may do follows from the place: uploads go into `sandbox/`, nothing else is written"
_WHOLE = "nothing is ever overwritten by a rename"
_OLD_SCP = "the old protocol is a shell's command: it is refused with a message that names SFTP (`scp -s`, release 9)"
ALWAYS = {  # rules of what is not run, by script
    "sftp-chroot.sh": "every session sees its home as `/`, so there is nothing to configure: `..` ends there",
    "sftp-perm.sh": f"the options `-R`, `-p` and `-P` are sftp-server's own; here {_PLACES}",
    "transfer.sh": "there is no shell to run `cat` in: the same bytes go by `get` and `put`, on every cipher",
    "rekey.sh": "the same: keys are exchanged anew during `get` and `put` (tests/peers/test_openssh_transport.py)",
    "putty-transfer.sh": "the same with psftp (tests/peers/test_upload_peers.py); compression is not offered",
}


@dataclass(frozen=True)
class Step:
    """What is run, what must be true afterwards, and the rule where OpenSSH's own server would do something else."""

    script: str
    what: str
    commands: tuple[str, ...] = ()  # of sftp, which stops at the first that fails
    arguments: tuple[str, ...] = ()  # of the program; without, those that sftp needs for the commands
    program: str = "sftp"
    is_done: bool = True  # exit status 0
    here: tuple[str, ...] = ()  # files that then hold the bytes, in the client's directory
    there: tuple[str, ...] = ()  # and in the sandbox
    gone: tuple[str, ...] = ()  # what is then in neither
    says: tuple[str, ...] = ()
    lists: tuple[tuple[str, str, str], ...] = ()  # patterns for `ls -l`: what must be listed, and what must not
    rule: str = ""


_URL = "{user}@127.0.0.1:{port}/sandbox/{place}"
_TRANSFERS = tuple(
    Step(
        "sftp.sh", f"version, get, put: {size} bytes a request, {count} at once",
        ("version", "get data a", "put data b"), ("-B", size, "-R", count),
        here=("a",), there=("b",), says=("SFTP protocol version 3",),
    )
    for size, count in (("5", "10"), ("1000", "1"), ("32000", "2"), ("64000", "10"))
)  # fmt: skip
_COMMANDS = (
    Step("sftp-cmds.sh", "lists here and there, runs a command here, says where it is",
         ("lls", "lls .", "ls", "!echo hi there", "pwd", "lpwd", "help", "quit"),
         says=("hi there", "Remote working directory: /sandbox/", "rx", "lx")),
    Step("sftp-cmds.sh", "get, its name quoted too", ("get data a", 'get "rx" b'), here=("a", "b")),
    Step("sftp-cmds.sh", "names with quotes, blanks, characters of patterns: put and get",
         (r'put data "a.\"b\""', r'get "a.\"b\"" a', r"put data a\ b.txt", r"get a\ b.txt b", 'put data "a [x].txt"',
          'get "a [x].txt" c'),
         here=("a", "b", "c"), there=('a."b"', "a b.txt", "a [x].txt")),
    Step("sftp-cmds.sh", "get into a directory, by name and by pattern",
         ("lmkdir d", "get data d", "get r* d", "lmkdir e", "lcd e", "get data", "get r*"),
         here=("d/data", "d/rx", "d/ry", "e/data", "e/rx", "e/ry")),
    Step("sftp-cmds.sh", "put into a folder, by name and by pattern",
         ("mkdir d", "put data d", "put l? d", "mkdir e", "cd e", "put data", "put l*"),
         there=("d/data", "d/lx", "d/ly", "e/data", "e/lx", "e/ly")),
    Step("sftp-cmds.sh", "rename a file, and a folder with what is in it",
         ("rename rx a", "mkdir d", "put data d/x", "rename d e"), there=("a", "e/x"), gone=("rx", "d")),
    Step("sftp-cmds.sh", "ln", ("ln rx a",), is_done=False, says=("hardlink",), gone=("a",), rule=_NO_LINKS),
    Step("sftp-cmds.sh", "ln -s", ("ln -s rx a",), is_done=False, says=("unsupported",), gone=("a",), rule=_NO_LINKS),
    Step("sftp-cmds.sh", "cp", ("cp rx a", "get a b"), there=("rx", "a"), here=("b",)),
    Step("sftp-cmds.sh", "mkdir, chdir, rmdir; lmkdir, lchdir",
         ("mkdir d", "chdir d", "cd ..", "rmdir d", "lmkdir e", "lchdir e", "get rx"), gone=("d",), here=("e/rx",)),
)  # fmt: skip
_BATCHES = (
    Step("sftp-batch.sh", "get, put, rm; `-` lets a command fail",
         ("get data a", "put a b", "rm rx", "-put none c", "ls"), here=("a",), there=("b",), gone=("rx", "c")),
    Step("sftp-batch.sh", "comments and blank lines", ("# a comment", "", "  # another", "ls"), says=("rx",)),
    Step("sftp-batch.sh", "ends at the first command that fails", ("put data a", "rm r*", "get rx b", "lmkdir c"),
         is_done=False, there=("a",), gone=("rx", "ry", "b", "c")),
    Step("sftp-batch.sh", "a word that is no command", ("jajajaja",), is_done=False, says=("Invalid command",)),
    Step("sftp-badcmds.sh", "get what is not there", ("get none a",), is_done=False, says=("not found",), gone=("a",)),
    Step("sftp-badcmds.sh", "get many into no directory", ("get r* none",), is_done=False, gone=("none",)),
    Step("sftp-badcmds.sh", "put what is not here", ("put none a",), is_done=False, gone=("a",)),
    Step("sftp-badcmds.sh", "put many into no folder", ("put l* none",), is_done=False, gone=("none",)),
    Step("sftp-badcmds.sh", "rename what is not there", ("rename none a",), is_done=False,
         says=("No such file",), gone=("a",)),
    Step("sftp-badcmds.sh", "rename onto a folder", ("rename rx box",), is_done=False, there=("rx",)),
    Step("sftp-badcmds.sh", "put many onto a file", ("put l* rx",), is_done=False, there=("rx",), gone=("rx/lx",)),
    Step("sftp-badcmds.sh", "rename onto a file", ("rename rx ry",), is_done=False, there=("rx", "ry"), rule=_WHOLE),
)  # fmt: skip
_PATTERNS = (
    Step("sftp-glob.sh", "a pattern of files, of a folder",
         (), lists=(("r*", "rx", "data"), ("b*", "inside", "rx"))),
    Step("sftp-glob.sh", '* and " in a name, quoted and escaped',
         (r"put data g-wild\*", "put data g-wildx", r'put data "g-quote\""', 'put data "g-q space"'),
         lists=(('g-wild"*"', "g-wild*", "g-wildx"), (r"g-wild\*", "g-wild*", "g-wildx"),
                (r"g-quote\"", 'g-quote"', "~"),
                (r'"g-quote\""', 'g-quote"', "~"), ("'g-quote\"'", 'g-quote"', "~"), (r"g-q\ space", "g-q space", "~"),
                ("'g-q space'", "g-q space", "~"))),
    Step("sftp-glob.sh", "a backslash in a name, within it and at its end",
         (r"put data g-sl\\ash", r"put data g-slash\\", r'put data "g-qs\\\""'),
         lists=((r"g-sl\\ash", r"g-sl\ash", "~"), (r"'g-sl\\ash'", r"g-sl\ash", "~"), (r"g-slash\\", "g-slash\\", "~"),
                (r"'g-slash\\'", "g-slash\\", "~"), (r"g-qs\\\"", r"g-qs\"", "~"), (r"'g-qs\\\"'", r"g-qs\"", "~"))),
)  # fmt: skip
_PERMISSIONS = (
    Step("sftp-perm.sh", "get, put, rm, mkdir, rmdir, both kinds of rename, ls -ln, df",
         ("get data a", "put data b", "rm data", "mkdir d", "rmdir d", "rename rx c", "rename -l ry e", "ls -ln",
          "df /"),
         here=("a",), there=("b", "c", "e"), gone=("rx", "ry")),
    Step("sftp-perm.sh", "chmod", ("chmod 0700 rx",), there=("rx",), lists=(("rx", "-r--r-----", "rwx"),), rule=_MODES),
    Step("sftp-perm.sh", "put outside of the sandbox", ("put data /inbox/a",), is_done=False,
         says=("Permission denied",), rule=_PLACES),
    Step("sftp-perm.sh", "mkdir outside", ("mkdir /a",), is_done=False, says=("Permission denied",), rule=_PLACES),
    Step("sftp-perm.sh", "rm and rmdir outside", ("-rm /archive", "rmdir /inbox"), is_done=False,
         says=("denied",), rule=_PLACES),
    Step("sftp-perm.sh", "rename to the outside", ("rename rx /inbox/rx",), is_done=False, there=("rx",),
         says=("denied",), rule=_PLACES),
    Step("sftp-chroot.sh", "get by its path from the home; `..` leads nowhere",
         ("get /sandbox/{place}/data a", "get /../../sandbox/{place}/rx b"), here=("a", "b")),
    Step("sftp-uri.sh", "a file by its address, to a file", arguments=(f"sftp://{_URL}/rx", "{place}/a"), here=("a",)),
    Step("sftp-uri.sh", "to a directory", arguments=(f"sftp://{_URL}/rx", "{place}"), here=("rx",)),
    Step("sftp-uri.sh", "put into a folder by its address, with a slash", ("version", "put {place}/data a"),
         (f"sftp://{_URL}/",), there=("a",)),
    Step("sftp-uri.sh", "and without", ("version", "put {place}/data a"), (f"sftp://{_URL}",), there=("a",)),
)  # fmt: skip
_HOST = "{user}@127.0.0.1:/sandbox/{place}"


def _copies(script: str, remote: str) -> tuple[Step, ...]:
    """What both scripts of scp do with one host."""

    def step(what: str, *arguments: str, here: tuple[str, ...] = (), there: tuple[str, ...] = ()) -> Step:
        return Step(script, what, (), arguments, "scp", here=here, there=there)

    return (
        step("a file there, onto a longer one", "{place}/data", f"{remote}/long", there=("long",)),
        step("a file from there", f"{remote}/rx", "{place}/a", here=("a",)),
        step("into a folder there", "{place}/data", "{place}/lx", f"{remote}/box", there=("box/data", "box/lx")),
        step("into a directory here", f"{remote}/data", f"{remote}/rx", "{place}/box", here=("box/data", "box/rx")),
        step("a directory there", "-r", "{place}/box", f"{remote}/e", there=("e/inside",)),
        step("a folder from there", "-r", f"{remote}/box", "{place}/e", here=("e/inside",)),
    )


_SCP = (
    *_copies("scp.sh", _HOST),
    Step("scp.sh", "a name with the characters of patterns", (), ("{place}/data", f"{_HOST}/a[12]"), "scp",
         there=("a[12]",)),
    Step("scp.sh", "many by a pattern, with their times", (), ("-p", f"{_HOST}/r*", "{place}/box"), "scp",
         here=("box/rx", "box/ry")),
    Step("scp.sh", "many onto what is no folder", (), ("{place}/lx", "{place}/ly", f"{_HOST}/rx"), "scp", is_done=False,
         there=("rx",)),
    Step("scp.sh", "the old protocol", (), ("-O", "{place}/data", f"{_HOST}/a"), "scp", is_done=False, gone=("a",),
         says=("SFTP",), rule=_OLD_SCP),
    Step("scp3.sh", "a file from there to there", (), ("-3", f"{_HOST}/rx", f"{_HOST}/a"), "scp", there=("a",)),
    Step("scp3.sh", "into a folder", (), ("-3", f"{_HOST}/rx", f"{_HOST}/box"), "scp", there=("box/rx",)),
    Step("scp3.sh", "a folder", (), ("-3r", f"{_HOST}/box", f"{_HOST}/e"), "scp", there=("e/inside",)),
    Step("scp3.sh", "many onto what is no folder", (), ("-3", f"{_HOST}/data", f"{_HOST}/rx", f"{_HOST}/ry"), "scp",
         is_done=False, there=("ry",)),
    Step("scp3.sh", "the old protocol", (), ("-O", "-3", f"{_HOST}/rx", f"{_HOST}/a"), "scp", is_done=False,
         gone=("a",), says=("SFTP",), rule=_OLD_SCP),
    *_copies("scp-uri.sh", f"scp://{_URL}"),
)  # fmt: skip
STEPS = (*_TRANSFERS, *_COMMANDS, *_BATCHES, *_PATTERNS, *_PERMISSIONS, *_SCP)
HEAD = """\
# What OpenSSH's own tests ask of a server

Made by `make docs/openssh.md` from the table that `tests/peers/test_openssh_regress.py` runs with the machine's `sftp`
and `scp`; do not edit it. The names are those of the scripts below `regress/` in OpenSSH's sources, the steps what they
ask for, in our own words. They write, so they work in `sandbox/`, the one place where a client may. *As with OpenSSH*
is what its own server does too. Who has its sources runs the scripts themselves: `make test-openssh OPENSSH=DIR`.

| Script | Step | Outcome |
|---|---|---|
"""


def page() -> str:
    """docs/openssh.md."""
    rows = [(step.script, step.what, f"by design: {step.rule}" if step.rule else "as with OpenSSH") for step in STEPS]
    rows += [(script, "the rest of it", f"not run: {rule}") for script, rule in ALWAYS.items()]
    scripts = list(dict.fromkeys(script for script, _, _ in rows))
    text = HEAD
    for script, steps in groupby(sorted(rows, key=lambda row: scripts.index(row[0])), lambda row: row[0]):
        for number, (_, what, outcome) in enumerate(steps):
            text += f"| {f'`{script}`' if not number else ''} | {what} | {outcome} |\n"
    return text


if __name__ == "__main__":
    print(page(), end="")
