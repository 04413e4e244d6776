"""Run the benchmarks of this folder one after the other, then print their figures as one table.

    python -m bench [NAME]     (make bench, make bench ONLY=NAME)

NAME is a file's (`seal`) or a figure's that begins with it (`seal_per_core`). Each runs in a process of its own and
prints `BENCH name value unit ratio=R peer=NAME` lines. Exit status 1 when one fails, or none has that name.
"""

import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table


def main(only: str = "") -> int:
    """Run all, or the one that `only` names; 0 when every one succeeded."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    chosen = [name for name in names if not only or only == name or only.startswith(f"{name}_")]
    if not chosen:
        print(f"no benchmark is named {only}; there are: {', '.join(names)}", file=sys.stderr)
        return 1
    figures: list[list[str]] = []
    failed = [name for name in chosen if not _run(name, figures)]
    _print_table(figures)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str, figures: list[list[str]]) -> bool:
    """Run one benchmark, show what it prints as it comes, and keep its figures."""
    command = [sys.executable, "-u", "-m", f"bench.{name}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            words = line.split()
            if words[:1] == ["BENCH"]:
                figures.append(words[1:])
    return process.returncode == 0


def _print_table(figures: list[list[str]]) -> None:
    table = Table("figure", "value", "unit", "ratio", "peer")
    for name, value, unit, *rest in figures:
        facts = dict(word.partition("=")[::2] for word in rest)
        table.add_row(name, value, unit, facts.get("ratio", ""), facts.get("peer", ""))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
