"""What the Jobs of an artifact will need, before one is made: memory, time, room on the volume. Pure.

Measured on llm-compressor 0.14 (`python -m benchmarks.quantize`): a calibrated recipe holds the whole model, up to 2.3
bytes of memory for each byte of the source, and what it computes of every sample; one without data goes through the
files shard by shard. The programs themselves take some 920 MB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.termination import Phase
from tandem_operator.api.artifact import ArtifactQuantization

GIB = 1 << 30
CALIBRATED_BYTES_PER_BYTE = 2.3
ACTIVATIONS_PER_TOKEN = 7
"""Values of the hidden size that are kept of each token of each sample between two layers. Measured on one model, whose
peak was 1,084 MB with 16 samples of 512 tokens, 1,303 MB with 64 of 512, and 1,535 MB with 16 of 2,048."""
MASK_BYTES = 4
"""Of each pair of tokens of a sample."""
EVALUATED_BYTES_PER_BYTE = 2.6
"""Both models, decoded, one beside the other."""
DATA_FREE_BYTES_PER_BYTE = 3.0
LARGEST_SHARD_BYTES = 5 * 10**9
"""Of files as they are saved by default: a larger model lies in several."""
FETCH_BYTES = 1 * GIB
SMALL_MODEL_PARAMETERS = 10**9
"""Up to here calibration runs on a CPU, unless its deadline is too short for that."""
_CPU_SECONDS_PER_PARAMETER_TOKEN = 0.24e-6 / 4096
"""GPTQ on two cores: 0.24 s for each million parameters with 4,096 tokens."""
_GPU_SECONDS_PER_PARAMETER_TOKEN = 745 / (8e9 * 512 * 2048)
"""GPTQ of 8B parameters with 512 samples of 2,048 tokens on one GPU, as llm-compressor's documentation has it."""
_BYTES_PER_SECOND = 100e6
"""That are read, changed and written, on one core."""


@dataclass(frozen=True)
class Estimate:
    """Of one Job. `seconds` is 0 where nobody can tell, as for what comes over a network."""

    memory_bytes: int
    seconds: float = 0.0

    @property
    def memory(self) -> str:
        """As a quantity."""
        return f"{math.ceil(self.memory_bytes / (1 << 20))}Mi"


def estimate_of(
    phase: Phase, source: ModelFacts | None, quantization: ArtifactQuantization | None, *, on_cpu: bool
) -> Estimate:
    """What a step needs. `source`: the model that the Job reads; None for one that is still to be fetched."""
    if source is None or quantization is None or phase not in {Phase.QUANTIZE, Phase.EVALUATE}:
        return Estimate(FETCH_BYTES)
    size = source.weights_bytes
    if phase is Phase.EVALUATE:
        return Estimate(GIB + math.ceil(EVALUATED_BYTES_PER_BYTE * size))
    calibration = quantization.calibration
    if calibration is None:
        read_at_once = min(size, LARGEST_SHARD_BYTES)
        return Estimate(GIB + math.ceil(DATA_FREE_BYTES_PER_BYTE * read_at_once), size / _BYTES_PER_SECOND)
    each = _CPU_SECONDS_PER_PARAMETER_TOKEN if on_cpu else _GPU_SECONDS_PER_PARAMETER_TOKEN
    tokens = calibration.samples * calibration.max_sequence_length
    seconds = each * parameters_of(source) * tokens
    value_bytes = size / parameters_of(source)
    kept = ACTIVATIONS_PER_TOKEN * source.hidden_size * value_bytes + MASK_BYTES * calibration.max_sequence_length
    return Estimate(GIB + math.ceil(CALIBRATED_BYTES_PER_BYTE * size + tokens * kept), seconds)


def parameters_of(model: ModelFacts) -> float:
    """Values in the weight files; where that is unknown, as if each took two bytes."""
    return float(model.parameters or model.weights_bytes / 2)
