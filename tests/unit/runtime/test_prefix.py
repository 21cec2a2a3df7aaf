"""What of a draft may still be used, and what may reach the engine at all."""

from hypothesis import given
from hypothesis import strategies as st

from tandem_runtime.drafting.prefix import accepted_by_engine, left_of, shared, without_placeholders

few_tokens = st.integers(0, 2)  # few different ones, so that drafts are often right
token_lists = st.lists(few_tokens, max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(draft=token_lists, committed=token_lists)
def test_a_draft_is_used_exactly_where_it_continues_what_was_committed(draft: list[int], committed: list[int]) -> None:
    rest = left_of(draft, committed)
    if rest:
        assert committed + rest == draft
    else:
        assert draft[: len(committed)] != committed or len(draft) <= len(committed)


@given(draft=token_lists)
def test_an_answer_on_time_is_used_whole(draft: list[int]) -> None:
    assert left_of(draft, []) == draft


@given(draft=token_lists, committed=token_lists)
def test_what_was_accepted_of_a_draft_is_what_both_begin_with(draft: list[int], committed: list[int]) -> None:
    count = shared(draft, committed)
    assert draft[:count] == committed[:count]
    assert draft[count : count + 1] != committed[count : count + 1] or count == min(len(draft), len(committed))


@given(reply=json_values, vocabulary=st.integers(1, 5), depth=st.integers(1, 4))
def test_whatever_a_draft_pod_sends_only_valid_ids_reach_the_engine(reply: object, vocabulary: int, depth: int) -> None:
    tokens = accepted_by_engine(reply, vocabulary, depth)
    assert len(tokens) <= depth
    assert all(type(token) is int and 0 <= token < vocabulary for token in tokens)


@given(reply=st.lists(st.integers(-3, 12)), depth=st.integers(1, 16))
def test_a_draft_is_kept_up_to_its_first_invalid_id_or_its_depth(reply: list[int], depth: int) -> None:
    tokens = accepted_by_engine(reply, 10, depth)
    assert reply[: len(tokens)] == tokens
    assert len(tokens) in (depth, len(reply)) or not 0 <= reply[len(tokens)] < 10


def test_true_and_fractions_are_no_token_ids() -> None:
    assert accepted_by_engine([1, True, 2], 10, 4) == [1]
    assert accepted_by_engine([1, 2.0], 10, 4) == [1]


@given(st.lists(st.integers(-1, 100)))
def test_replacing_placeholders_changes_nothing_else(tokens: list[int]) -> None:
    replaced = without_placeholders(tokens)
    assert len(replaced) == len(tokens)
    assert all(new == old if old >= 0 else new == 0 for old, new in zip(tokens, replaced, strict=True))
