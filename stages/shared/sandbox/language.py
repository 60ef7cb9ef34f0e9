"""Questions about the sandbox world: how they are phrased, and how any paraphrase of one is understood."""

from __future__ import annotations

import random
import re

from stages.shared.sandbox.lexicon import BY_NAME, COMPARE_FRAMES, FRAMES, PHRASINGS, RELATIONS
from stages.shared.sandbox.world import Ask, World, split_ask

_PHRASES = {phrase: relation.name for relation in RELATIONS for phrase in relation.phrasings}
_LONGEST = max(len(phrase.split()) for phrase in _PHRASES)


def phrase(ask: Ask, style: str, rng: random.Random, wording: tuple[str, ...] | None = None) -> str:
    """The ask as a question of that style (a data set's name, or `plain`); `wording` fixes how relations are called."""
    names = draw_wording(ask, style, rng) if wording is None else wording
    if ask.kind == "compare":
        first, second = ask.entities
        return rng.choice(COMPARE_FRAMES[style]).format(phrase=names[0], first=first, second=second)
    nouns = [ask.entities[0]]
    for name in names:
        nouns.append(f"the {name} of {nouns[-1]}")
    return rng.choice(FRAMES[style]).format(np=nouns[-1], inner=nouns[-2], outer=names[-1])


def draw_wording(ask: Ask, style: str, rng: random.Random) -> tuple[str, ...]:
    """One phrasing for each relation of the ask, as that style uses them."""
    return tuple(BY_NAME[relation].phrasings[rng.choice(PHRASINGS[style])] for relation in ask.relations)


def phrase_parts(world: World, ask: Ask, wording: tuple[str, ...]) -> list[tuple[Ask, str]]:
    """The single-hop parts of an ask, each a plain question that keeps the wording of the whole."""
    words = wording * 2 if ask.kind == "compare" else wording
    plain = random.Random(0)
    return [
        (part, phrase(part, "plain", plain, (word,))) for part, word in zip(split_ask(world, ask), words, strict=True)
    ]


def understand(world: World, text: str) -> Ask | None:
    """What a question asks, however it is worded; None where no known relation and entity fit together.

    Relations before the entity apply from the nearest outwards ("the mayor of the quarry of X"), those after it in
    order ("take X : what is its quarry"). Names must be spelled exactly.
    """
    tokens = re.findall(r"[a-z]+", text.lower())
    found = _relations(tokens)
    entities = [(place, token) for place, token in enumerate(tokens) if world.find(token) is not None]
    if not found or not entities:
        return None
    if len(entities) == 2 and len(found) == 1:
        return _comparison(world, found[0][1], tuple(name for _, name in entities))
    place, name = entities[0]
    before = [relation for at, relation in reversed(found) if at < place]
    after = [relation for at, relation in found if at > place]
    ask = Ask("chain", (*before, *after), (name,))
    return ask if len(entities) == 1 and _fits(world, ask) else None


def _relations(tokens: list[str]) -> list[tuple[int, str]]:
    found, at = [], 0
    while at < len(tokens):
        for length in range(_LONGEST, 0, -1):
            relation = _PHRASES.get(" ".join(tokens[at : at + length]))
            if relation is not None and at + length <= len(tokens):
                found.append((at, relation))
                at += length - 1
                break
        at += 1
    return found


def _comparison(world: World, relation: str, names: tuple[str, ...]) -> Ask | None:
    kinds = {entity.type for name in names if (entity := world.find(name)) is not None}
    fits = BY_NAME[relation].answer == "number" and kinds == {BY_NAME[relation].domain}
    return Ask("compare", (relation,), names) if fits and len(set(names)) == 2 else None


def _fits(world: World, ask: Ask) -> bool:
    try:
        world.walk(ask)
    except KeyError:
        return False
    return True
