"""What kopf is told: its watchers never end, see nothing but what is ours to see, and write nothing."""

from __future__ import annotations

from itertools import islice, pairwise

from tandem_operator import names
from tandem_operator.cluster import KINDS, OPTIONAL_WATCHED, WATCHED
from tandem_operator.handlers import RETRY_LIMIT_SECONDS, Backoffs, settings_of


def test_delays_after_errors_grow_to_a_limit_and_never_end() -> None:
    delays = list(islice(Backoffs(), 10_000))
    assert len(delays) == 10_000
    assert 0.75 <= delays[0] <= 1.0
    assert 1.2 <= delays[1] <= 1.6
    assert all(0.75 * RETRY_LIMIT_SECONDS <= delay <= RETRY_LIMIT_SECONDS for delay in delays[10:])
    assert any(earlier != later for earlier, later in pairwise(delays[10:])), "watchers do not come back in step"


def test_each_request_begins_with_the_shortest_delay() -> None:
    backoffs = settings_of().networking.error_backoffs
    assert isinstance(backoffs, Backoffs)
    list(islice(backoffs, 20))
    assert next(iter(backoffs)) <= 1.0


def test_a_watch_ends_at_the_server_before_the_client_gives_it_up() -> None:
    watching = settings_of().watching
    assert watching.server_timeout is not None
    assert watching.client_timeout is not None
    assert 60 <= watching.server_timeout < watching.client_timeout <= 600


def test_children_are_filtered_by_the_server_and_our_own_kinds_are_not() -> None:
    selectors = {getattr(key, "any_name", key): value for key, value in settings_of().watching.label_selectors.items()}
    children = {*WATCHED, *OPTIONAL_WATCHED} - {names.KIND, names.ARTIFACT_KIND}
    assert selectors == {KINDS[kind].plural: names.MANAGED_SELECTOR for kind in children}


def test_kopf_asks_for_no_right_beyond_the_namespace_and_posts_no_events() -> None:
    settings = settings_of()
    assert settings.scanning.disabled
    assert not settings.posting.enabled


def test_when_kopf_has_to_end_and_hangs_the_process_ends_all_the_same() -> None:
    limit = settings_of().process.ultimate_exiting_timeout
    assert limit is not None
    assert 0 < limit <= 30
