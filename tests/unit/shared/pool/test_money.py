"""Money is exact."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.shared.errors import ConfigurationError
from stages.shared.pool.candidate import Candidate
from stages.shared.pool.money import dollars, picos, tariff


def candidate(price: float, prompt_price: float = 0.0) -> Candidate:
    return Candidate("Arlix", "m", "http://h/v1", price=price, prompt_price=prompt_price)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_cost_is_the_rational_number_that_the_prices_say(price: int, other: int, prompt: int, tokens: int) -> None:
    charged = tariff(candidate(price / 10**6, other / 10**6))
    usd = Fraction(price, 10**12) * tokens + Fraction(other, 10**12) * prompt
    assert charged.cost(prompt, tokens) == usd * 10**12


def test_a_paper_price_by_hand() -> None:
    assert tariff(candidate(0.3)).cost(0, 500) == 150_000_000
    assert dollars(150_000_000) == "0.00015 USD"
    assert dollars(0) == "0 USD"
    assert dollars(2 * 10**12) == "2 USD"
    assert picos(0.1) == 10**11


@pytest.mark.parametrize("price", [math.nan, math.inf, -1.0, 1e-7, 0.1234567])
def test_an_unknown_price_is_refused_before_anything_is_called(price: float) -> None:
    for unknown in (candidate(price), candidate(1.0, price)):
        with pytest.raises(ConfigurationError, match="price of Arlix is unknown or unusable"):
            tariff(unknown)


@given(st.text(max_size=200), st.integers(1, 4096))
def test_no_prompt_has_more_tokens_than_is_held_back_for(text: str, tokens: int) -> None:
    charged = tariff(candidate(2.0, 0.5))
    assert charged.most(len(text.encode("utf-8", "replace")), tokens) >= charged.cost(len(text), tokens)
