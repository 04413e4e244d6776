"""What makes ERPs fail that pull over SFTP and FTPS, and the tests that keep the drop folder from doing it to them.

Each row is what the folder does about one thing that users of other servers reported; its tests are named with their
file. A row without a test is a wish.
"""

import ast
import functools
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = {
    "a name that is listed is whole: size, time and mode are final, nothing is temporary or empty": (
        "dropfolder/test_index.py::test_what_is_not_listed_yet_is_not_there",
        "delivery/test_publish.py::test_a_published_document_has_one_entry_with_its_facts",
        "dropfolder/test_sandbox.py::test_an_upload_that_is_never_closed_leaves_nothing",
    ),
    "the time of a file is a cursor: whoever has seen it has seen everything before, and it never goes back": (
        "dropfolder/test_index.py::test_an_entry_is_listed_only_once_its_second_is_over",
        "dropfolder/test_index.py::test_whoever_saw_an_mtime_has_seen_everything_up_to_it",
        "dropfolder/test_index.py::test_what_was_listed_stays_listed_when_the_clock_is_set_back",
        "delivery/test_publish.py::test_a_clock_that_steps_back_never_takes_the_times_back",
        "delivery/test_publish.py::test_sent_again_it_is_another_entry_and_another_event",
        "dropfolder/test_interleavings.py::test_any_interleaving_keeps_the_promises",
    ),
    "a large folder is listed in packets that every client takes, from an index": (
        "servers/test_sftp_protocol.py::test_a_large_listing_comes_in_packets_that_every_client_takes",
        "dropfolder/test_index.py::test_only_what_is_newer_is_loaded",
        "dropfolder/test_index.py::test_many_listings_of_an_archive_cost_the_memory_of_one",
        "servers/test_sftp_packets.py::test_a_long_name_reads_as_ls_prints_it",
        "peers/test_clients.py::test_a_client_does_its_night_s_work",
    ),
    "get and delete, get twice, rename before or after reading end well; what is not there is NO_SUCH_FILE": (
        "dropfolder/test_receipts.py::test_a_receipt_is_what_the_mode_says_and_every_story_ends_green",
        "dropfolder/test_receipts.py::test_a_second_delete_finds_nothing",
        "dropfolder/test_receipts.py::test_removed_unread_is_an_alert_and_no_receipt",
        "dropfolder/test_receipts.py::test_read_and_renamed_it_is_found_by_its_new_name_and_in_no_listing",
        "dropfolder/test_entries.py::test_renamed_and_not_read_returns_under_its_own_name",
        "servers/test_sftp_protocol.py::test_every_refusal_has_its_code",
        "servers/test_ftpsd.py::test_a_rename_and_a_full_read_are_a_receipt",
        "peers/test_sftp_peers.py::test_every_habit_ends_green_in_every_mode",
    ),
    "changes of mode and time are accepted and ignored": (
        "servers/test_sftp_protocol.py::test_every_refusal_has_its_code",
        "servers/test_sftp_protocol.py::test_extensions_say_what_they_are",
        "servers/test_ftpsd.py::test_changes_of_metadata_are_accepted_and_change_nothing",
    ),
    "old programs have a listener of their own, odd ways to log in work, a refusal says what is missing": (
        "servers/test_sftp_legacy.py::test_an_old_program_with_a_permit_pulls",
        "servers/test_sftp_legacy.py::test_the_main_listener_takes_no_sha_1_signature",
        "servers/test_sftp_legacy.py::test_the_end_of_a_permit_ends_its_sessions",
        "servers/test_sftpd.py::test_an_agent_may_offer_many_keys_but_not_for_ever",
        "servers/test_sftpd.py::test_a_password_opens_the_folder_where_the_settings_allow_it",
        "servers/test_failures.py::test_a_negotiation_that_fails_says_what_was_offered_and_what_is_needed",
        "dropfolder/test_failures.py::test_a_failure_belongs_to_the_client_that_lists_its_source",
        "peers/test_clients.py::test_jsch_is_told_on_the_main_port_what_it_lacks",
    ),
    "connections that are dead or idle end, limits are a client's own, nobody is shut out who shares an address": (
        "servers/test_sftpd.py::test_a_connection_that_nobody_answers_on_ends_and_gives_its_place_back",
        "servers/test_sftpd.py::test_an_idle_session_is_closed",
        "servers/test_ftpsd.py::test_an_idle_session_is_closed",
        "servers/test_sftpd.py::test_a_client_has_its_number_of_connections",
        "servers/test_sftpd.py::test_a_key_that_is_being_exchanged_shuts_nobody_out",
        "servers/test_penalties.py::test_where_a_client_logged_in_from_nobody_is_shut_out_for_a_day",
    ),
    "downloaded is what was read to the last byte, in whatever order, and can be read again": (
        "dropfolder/test_ranges.py::test_covered_means_that_no_byte_is_missing",
        "dropfolder/test_receipts.py::test_two_halves_in_two_sessions_are_the_whole",
        "dropfolder/test_receipts.py::test_one_byte_missing_is_a_partial_read",
        "dropfolder/test_receipts.py::test_what_a_lost_connection_never_took_is_not_read_by_reading_the_end",
        "dropfolder/test_receipts.py::test_a_received_name_lingers_unlisted_and_then_is_gone",
        "servers/test_ftpsd.py::test_a_client_that_never_ends_its_half_is_answered_and_has_not_read",
        "peers/test_sftp_peers.py::test_lftp_reads_in_parallel_chunks",
        "peers/test_sftp_peers.py::test_a_download_that_is_killed_and_resumed_is_received",
    ),
    "names are safe on every system, unique without case, and sort by time": (
        "domain/test_names.py::test_a_name_has_only_safe_characters_and_at_most_100",
        "domain/test_names.py::test_a_name_is_no_device_no_option_and_not_hidden",
        "domain/test_names.py::test_alphabetical_is_chronological",
        "domain/test_names.py::test_names_of_any_template_are_names_that_every_system_holds",
        "delivery/test_publish.py::test_names_that_would_be_equal_are_counted_and_kept_for_ever",
    ),
    "FTPS: passive ports, TLS sessions and closing as clients need them; times are UTC": (
        "servers/test_ftpsd.py::test_behind_a_nat_pasv_names_the_public_address_and_a_configured_port",
        "servers/test_ftps_hostile.py::test_when_every_passive_port_is_taken_none_is_made_up",
        "servers/test_ftpsd.py::test_a_data_connection_without_the_session_is_refused_where_the_policy_asks",
        "servers/test_ftpsd.py::test_a_download_that_is_cut_is_not_read",
        "servers/test_ftpsd.py::test_facts_of_a_name",
    ),
    "FTPS: a slow call stalls nobody else, TLS is required and has a floor, a handshake that waits costs nothing": (
        "servers/test_ftpsd.py::test_nothing_is_said_in_clear",
        "servers/test_ftpsd.py::test_commands_sent_behind_auth_in_clear_are_dropped",
        "servers/test_ftpsd.py::test_tls_1_2_and_1_3_serve",
        "peers/test_ftps_peers.py::test_a_handshake_that_waits_costs_no_cpu",
    ),
    "host keys change with notice, there are no links, and a manifest is no invoice": (
        "servers/test_host_keys.py::test_a_client_learns_all_keys_with_proof_and_it_is_known_who_has",
        "peers/test_moving_peers.py::test_a_client_with_its_old_known_hosts_logs_in_and_learns_the_key_that_is_to_come",
        "servers/test_sftp_protocol.py::test_every_refusal_has_its_code",
        "dropfolder/test_manifests.py::test_nothing_in_it_can_be_changed_and_a_read_is_no_receipt",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_its_tests(row: str) -> None:
    """A test that was renamed or removed leaves its row without an answer; so does one that asks nothing any more."""
    for path, _, name in (one.partition("::") for one in ROWS[row]):
        found = defined_in(TESTS / path)
        test = found.get(name)
        assert isinstance(test, ast.FunctionDef), f"{path}::{name}"
        marks = [ast.unparse(mark) for mark in test.decorator_list]
        assert not [mark for mark in marks if "skip" in mark or "xfail" in mark], f"{path}::{name}"
        assert asks(test, found), f"{path}::{name} can pass whatever the gateway does"


@functools.cache
def defined_in(path: Path) -> dict[str, ast.stmt]:
    """The functions and classes of a module of the tests, those that it takes from others of them too."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.level == 1 or (node.module or "").startswith("tests.")):
            there = path.parent if node.level else TESTS.parent
            taken = there.joinpath(*(node.module or "").split(".")).with_suffix(".py")
            others = defined_in(taken) if taken.is_file() else {}
            found |= {one.asname or one.name: others[one.name] for one in node.names if one.name in others}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
    return found


def asks(test: ast.AST, defined: dict[str, ast.stmt]) -> bool:
    """Whether it can fail by itself: it asserts, or expects an error, or uses something of the tests that does."""
    others = {name: one for name, one in defined.items() if one is not test}
    for node in ast.walk(test):
        if isinstance(node, ast.Assert) or (isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.raises"):
            return True
        if isinstance(node, ast.Name) and node.id in others and asks(others[node.id], others):
            return True
    return False


def test_a_test_that_asks_nothing_is_noticed() -> None:
    """One whose assertion was taken out passes for ever."""
    parsed = ast.parse("def one():\n    get()\n\ndef get():\n    return 1\n\ndef two():\n    one()\n    assert get()")
    module: dict[str, ast.stmt] = {node.name: node for node in parsed.body if isinstance(node, ast.FunctionDef)}
    assert [asks(module[name], module) for name in ("one", "two")] == [False, True]
