"""Money in whole numbers of 1e-12 USD, called picos here: sums of them are exact, whatever their order."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from stages.shared.errors import ConfigurationError
from stages.shared.pool.candidate import Candidate

DIGITS = 12
A_MILLION = 10**6
FRAMING_TOKENS = 64
"""What a chat template may add to a prompt, beside one token a byte at most."""


@dataclass(frozen=True)
class Tariff:
    """What one candidate charges, picos a token."""

    prompt: int
    completion: int

    def cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Of a call, picos; exact."""
        return self.prompt * prompt_tokens + self.completion * completion_tokens

    def most(self, prompt_bytes: int, max_tokens: int) -> int:
        """What a call may cost, picos, before it is made: a token is at least a byte of UTF-8."""
        return self.cost(prompt_bytes + FRAMING_TOKENS, max_tokens)


def tariff(candidate: Candidate) -> Tariff:
    """The prices of a candidate. Raises ConfigurationError for one that is unknown, or finer than a pico a token."""
    return Tariff(*(_picos_a_token(candidate.name, price) for price in (candidate.prompt_price, candidate.price)))


def picos(usd: float) -> int:
    """Dollars as parameters give them, in picos, rounded down."""
    return int(Decimal(repr(usd)).scaleb(DIGITS))


def dollars(amount: int) -> str:
    """Picos for people, exact: `0.0000125 USD`."""
    return f"{Decimal(amount).scaleb(-DIGITS).normalize():f} USD"


def _picos_a_token(name: str, price: float) -> int:
    """From USD per 1M tokens."""
    value = Decimal(repr(float(price)))
    exact = value.scaleb(DIGITS) / A_MILLION if value.is_finite() and value >= 0 else Decimal("0.5")
    if exact != exact.to_integral_value():
        raise ConfigurationError(
            f"the price of {name} is unknown or unusable ({price} USD per 1M tokens), and nothing is called before it "
            "is known; write what the provider charges, to the millionth of a dollar, or 0 where it charges nothing"
        )
    return int(exact)
