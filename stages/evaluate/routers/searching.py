"""A corpus in the place of candidates: the episode driver calls it as it calls any of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from stages.evaluate.player import redirect
from stages.evaluate.routers.corpus import Corpus
from stages.shared.episode.types import Roster, RosterEntry
from stages.shared.pool.candidate import Candidate, Descriptor, Outcome, Reply

SEARCH = "search"
Style = Literal["compact", "prose"]
PASSAGES: Mapping[Style, int] = {"compact": 1, "prose": 3}
"""That a search replies with: three as in Search-R1 (Jin et al. 2025, arXiv 2503.09516); a small policy was taught to
read one sentence, and copies from the wrong one of three."""
_TOOL = Candidate(SEARCH, SEARCH, "", price=0.0, prompt_price=0.0)
_SUMMARY = "not a model but a search engine: the reply is the passages that fit the query best"


class SearchPool:
    """One candidate, which costs nothing and replies with passages."""

    def __init__(self, corpus: Corpus, style: Style) -> None:
        self._corpus, self._count = corpus, PASSAGES[style]

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        """The search alone."""
        return {SEARCH: _TOOL}

    async def ask(self, name: str, query: str) -> Reply:
        """The best passages, a line each; the driver cuts them to `episode.reply_tokens`."""
        return Reply("\n".join(self._corpus.search(query, self._count)), Outcome.ANSWERED)


def search_roster(roster: Roster, style: Style) -> Roster:
    """The prompt's candidates with the search behind them.

    In prose the search is shown as what it is. A small policy reads nothing but its table, so that it is shown the
    candidates as ever, and whomever it calls, the search replies.
    """
    if style == "compact":
        return redirect(roster, SEARCH)
    return Roster((RosterEntry("Search", SEARCH, Descriptor(SEARCH, 0.0, 0.1, summary=_SUMMARY)),))
