"""Recipes: what goes together, what they make of a matrix, and that they come back from JSON as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_contracts.recipe import Algorithm, CalibrationSettings, InvalidRecipeError, KVCache, Recipe, Scheme


def make_recipe(scheme: Scheme = Scheme.W4A16, algorithm: Algorithm | None = None, **parts: object) -> Recipe:
    return Recipe(scheme=scheme, algorithm=algorithm or scheme.algorithms[0], **parts)  # type: ignore[arg-type]


RECIPES = st.sampled_from(Scheme).flatmap(
    lambda scheme: st.builds(
        Recipe,
        scheme=st.just(scheme),
        algorithm=st.sampled_from(scheme.algorithms),
        kv_cache=st.sampled_from(KVCache),
        ignore=st.lists(st.text(max_size=20), max_size=3).map(tuple),
    )
)


@given(RECIPES)
def test_a_recipe_comes_back_as_it_was(recipe: Recipe) -> None:
    assert Recipe.from_data(recipe.to_data()) == recipe


@pytest.mark.parametrize(
    ("scheme", "bits"),
    [
        (Scheme.FP8_DYNAMIC, 8.02),
        (Scheme.FP8_BLOCK, 8.0),
        (Scheme.W8A8, 8.02),
        (Scheme.W4A16, 4.125),
        (Scheme.W4A16_ASYM, 4.156),
        (Scheme.NVFP4, 4.5),
        (Scheme.MXFP4, 4.25),
        (Scheme.MXFP8, 8.25),
        (Scheme.W2A16, 2.125),
    ],
)
def test_a_matrix_of_16_bit_values_takes_the_bits_that_were_measured(scheme: Scheme, bits: float) -> None:
    """Sizes of files that llm-compressor wrote, over the values in them."""
    rows, columns = 1024, 1024
    assert 8 * scheme.stored_bytes(rows, columns) / (rows * columns) == pytest.approx(bits, rel=0.002)


@pytest.mark.parametrize(
    ("recipe", "is_needed"),
    [
        (make_recipe(Scheme.W8A8), False),
        (make_recipe(Scheme.W8A8, Algorithm.SMOOTH_QUANT_GPTQ), True),
        (make_recipe(Scheme.W4A16), True),
        (make_recipe(Scheme.W4A16, Algorithm.RTN), False),
        (make_recipe(Scheme.NVFP4), True),
        (make_recipe(Scheme.MXFP4), False),
        (make_recipe(Scheme.FP8_DYNAMIC, kv_cache=KVCache.FP8), True),
    ],
)
def test_data_are_needed_where_the_model_has_to_be_run(recipe: Recipe, is_needed: bool) -> None:
    assert recipe.needs_calibration is is_needed


def test_an_algorithm_that_a_scheme_has_not_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(InvalidRecipeError, match=r"algorithm \(is AWQ\): W8A8 is made by one of RTN, GPTQ"):
        make_recipe(Scheme.W8A8, Algorithm.AWQ)


@pytest.mark.parametrize(
    "data",
    [None, {}, [], "W8A8", {**make_recipe().to_data(), "scheme": "W9"}, {**make_recipe().to_data(), "ignore": None}],
)
def test_what_is_no_recipe_is_refused(data: object) -> None:
    with pytest.raises(InvalidRecipeError, match="recipe"):
        Recipe.from_data(data)


def test_settings_of_a_calibration_come_back_and_have_defaults() -> None:
    settings = CalibrationSettings(samples=4, sequence_tokens=256, seed=7)
    assert CalibrationSettings.from_data(settings.to_data()) == settings
    assert CalibrationSettings.from_data({}) == CalibrationSettings()
    with pytest.raises(InvalidRecipeError, match="calibration"):
        CalibrationSettings.from_data({"samples": "many"})
