"""One pass of a Llama-shaped model over ragged rows, compiled by numba: no dispatch between its operations.

For a draft of a few million parameters on a CPU, what a framework spends between two operations is more than the
operations take. All arrays are float32 and contiguous; weights are [outputs, inputs].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = Any
ROWS_OF_HEAD = 8
"""At once: their logits are held meanwhile, which for many rows and a large vocabulary would be much."""


@njit(fastmath=True, cache=True)
def _times(weights: Array, inputs: Array, outputs: Array) -> None:
    """outputs[n, o] = inputs[n, i] · weights[o, i]: each row of weights is read once for all n, and used for four."""
    count, length = inputs.shape
    fours = count - count % 4
    for o in range(weights.shape[0]):
        row = weights[o]
        for n in range(0, fours, 4):
            one, two, three, four = inputs[n], inputs[n + 1], inputs[n + 2], inputs[n + 3]
            first = second = third = fourth = np.float32(0)
            for i in range(length):
                weight = row[i]
                first += weight * one[i]
                second += weight * two[i]
                third += weight * three[i]
                fourth += weight * four[i]
            outputs[n, o], outputs[n + 1, o], outputs[n + 2, o], outputs[n + 3, o] = first, second, third, fourth
        for n in range(fours, count):
            total = np.float32(0)
            for i in range(length):
                total += row[i] * inputs[n, i]
            outputs[n, o] = total


@njit(fastmath=True, cache=True)
def _normed(inputs: Array, weights: Array, epsilon: Any, outputs: Array) -> None:
    """Root mean square norm of each row."""
    for n in range(inputs.shape[0]):
        total = np.float32(0)
        for i in range(inputs.shape[1]):
            total += inputs[n, i] * inputs[n, i]
        scale = np.float32(1) / np.sqrt(total / np.float32(inputs.shape[1]) + epsilon)
        for i in range(inputs.shape[1]):
            outputs[n, i] = inputs[n, i] * scale * weights[i]


@njit(fastmath=True, cache=True)
def _rotated(vector: Array, cosines: Array, sines: Array) -> None:
    """Rotary position embedding of one head, in place: halves, not pairs."""
    half = vector.size // 2
    for i in range(half):
        first, second = vector[i], vector[i + half]
        vector[i] = first * cosines[i] - second * sines[i]
        vector[i + half] = second * cosines[i] + first * sines[i]


@njit(fastmath=True, cache=True)
def _attended(query: Array, keys: Array, values: Array, length: int, scores: Array, output: Array) -> None:
    """Softmax attention of one head's query [size] over the first `length` of keys and values [room, size]."""
    scale = np.float32(1) / np.sqrt(np.float32(query.size))
    highest = np.float32(-np.inf)
    for at in range(length):
        total = np.float32(0)
        for i in range(query.size):
            total += query[i] * keys[at, i]
        scores[at] = total * scale
        highest = max(highest, scores[at])
    whole = np.float32(0)
    for at in range(length):
        scores[at] = np.exp(scores[at] - highest)
        whole += scores[at]
    output[:] = np.float32(0)
    for at in range(length):
        share = scores[at] / whole
        for i in range(query.size):
            output[i] += share * values[at, i]


@njit(fastmath=True, cache=True)
def _greatest(values: Array) -> int:
    """Where the greatest of them is: numpy's own search takes each one by itself."""
    highest = np.float32(-np.inf)
    for at in range(values.size):
        highest = max(highest, values[at])
    for at in range(values.size):
        if values[at] == highest:
            return at
    return 0


@njit(fastmath=True, cache=True)
def passed(
    tokens: Array,
    positions: Array,
    slots: Array,
    ends: Array,
    keys: Array,
    values: Array,
    embedding: Array,
    attention_in: Array,
    attention_out: Array,
    feed_in: Array,
    feed_out: Array,
    norms: Array,
    last_norm: Array,
    head: Array,
    cosines: Array,
    sines: Array,
    epsilon: Any,
    found: Array,
) -> None:
    """Compute `tokens` [n] at their `positions` into the caches of their `slots`; `found`: the most likely token after
    each of the tokens that `ends` names.

    keys, values: [slots, layers, heads of keys, room, size]; attention_in: [layers, (heads + 2 heads of keys) size,
    width], query, key and value one after the other; feed_in: [layers, 2 inner, width], gate before up; norms:
    [layers, 2, width]; cosines, sines: [room, size / 2].
    """
    count, width = tokens.size, embedding.shape[1]
    layers, key_heads, size = keys.shape[1], keys.shape[2], keys.shape[4]
    heads = attention_out.shape[2] // size
    inner, group = feed_out.shape[2], heads // key_heads
    hidden, normed = np.empty((count, width), np.float32), np.empty((count, width), np.float32)
    mixed, update = np.empty((count, heads * size), np.float32), np.empty((count, width), np.float32)
    projected = np.empty((count, (heads + 2 * key_heads) * size), np.float32)
    gated, fed = np.empty((count, 2 * inner), np.float32), np.empty((count, inner), np.float32)
    scores = np.empty(keys.shape[3], np.float32)
    for n in range(count):
        hidden[n] = embedding[tokens[n]]
    for layer in range(layers):
        _normed(hidden, norms[layer, 0], epsilon, normed)
        _times(attention_in[layer], normed, projected)
        for n in range(count):
            at, slot = positions[n], slots[n]
            for h in range(heads + key_heads):
                _rotated(projected[n, h * size : (h + 1) * size], cosines[at], sines[at])
            for h in range(key_heads):
                begin = (heads + h) * size
                keys[slot, layer, h, at] = projected[n, begin : begin + size]
                begin += key_heads * size
                values[slot, layer, h, at] = projected[n, begin : begin + size]
        for n in range(count):
            at, slot = positions[n], slots[n]
            for h in range(heads):
                part = slice(h * size, (h + 1) * size)
                own = h // group
                _attended(
                    projected[n, part], keys[slot, layer, own], values[slot, layer, own], at + 1, scores, mixed[n, part]
                )
        _times(attention_out[layer], mixed, update)
        hidden += update
        _normed(hidden, norms[layer, 1], epsilon, normed)
        _times(feed_in[layer], normed, gated)
        for n in range(count):
            for i in range(inner):
                gate = gated[n, i]
                fed[n, i] = gate / (np.float32(1) + np.exp(-gate)) * gated[n, inner + i]
        _times(feed_out[layer], fed, update)
        hidden += update
    _normed(hidden, last_norm, epsilon, normed)
    for begin in range(0, ends.size, ROWS_OF_HEAD):
        size = min(ROWS_OF_HEAD, ends.size - begin)
        last, logits = np.empty((size, width), np.float32), np.empty((size, head.shape[0]), np.float32)
        for e in range(size):
            last[e] = normed[ends[begin + e]]
        _times(head, last, logits)
        for e in range(size):
            found[begin + e] = _greatest(logits[e])
