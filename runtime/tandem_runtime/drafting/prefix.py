"""What of a draft is still of use, and what of it may be shown to the engine. Pure functions over token ids."""

from collections.abc import Sequence


def accepted_by_engine(tokens: object, vocabulary: int, depth: int) -> list[int]:
    """The longest beginning of an untrusted `tokens` that the engine can take: valid ids, at most `depth`.

    An id outside 0 to `vocabulary` - 1 is read out of bounds by the engine's kernels, and a draft longer than its
    configured depth ends its scheduler. Anything that is not a list of integers gives [].
    """
    if not isinstance(tokens, list):
        return []
    valid: list[int] = []
    for token in tokens[:depth]:
        if type(token) is not int or not 0 <= token < vocabulary:
            break
        valid.append(token)
    return valid


def shared(some: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens both begin with."""
    length = min(len(some), len(others))
    if some[:length] == others[:length]:
        return length
    return next(at for at in range(length) if some[at] != others[at])


def without_placeholders(tokens: Sequence[int]) -> list[int]:
    """`tokens` with each negative placeholder replaced by 0, a token that verification rejects or proves right.

    vLLM pads the drafts of some requests with -1, which its CPU sampler uses as an index.
    """
    return [max(token, 0) for token in tokens]


def left_of(draft: Sequence[int], committed: Sequence[int]) -> list[int]:
    """What is left of a draft after `committed` tokens, which came after the context that it continued.

    When those are how the draft begins, the rest of it is a draft for now; otherwise it is worthless: []. This one rule
    makes late, repeated and out-of-order answers safe to use.
    """
    return list(draft[len(committed) :]) if list(draft[: len(committed)]) == list(committed) else []
