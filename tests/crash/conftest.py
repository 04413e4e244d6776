"""The template of all rounds; and a line of what the loop saw: where nobody was killed, nothing is proved."""

from collections import Counter

import pytest

from tests.crash.station import Template, make_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return make_template(tmp_path_factory.mktemp("crash"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Rounds that passed, documents handed in, kills by what was killed where."""
    reports = [report for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    rounds = [value for report in reports for name, value in report.user_properties if name == "crash"]
    if rounds:
        kills = sum((Counter(one["kills"]) for one in rounds), Counter[str]())
        documents = sum(one["documents"] for one in rounds)
        by_kind = ", ".join(f"{count} {kind}" for kind, count in kills.most_common())
        terminalreporter.line(
            f"crash loop: {len(rounds)} rounds, {documents} documents, {kills.total()} kills: {by_kind}"
        )
