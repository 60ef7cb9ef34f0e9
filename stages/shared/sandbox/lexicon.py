"""The words of the sandbox's language: domains, relations with their phrasings, syllables of names (synthetic)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Domain = Literal["plant", "song", "stone", "town"]
AnswerType = Literal["plant", "song", "stone", "town", "person", "number"]
DOMAINS: tuple[Domain, ...] = ("plant", "song", "stone", "town")

SYLLABLES: tuple[str, ...] = tuple(consonant + vowel for consonant in "bdfghjklmnprstvz" for vowel in "aeio")
"""Every invented name is three different ones of these, so that a word-piece tokenizer reads and copies any of them."""

CANDIDATE_NAMES: tuple[str, ...] = tuple(
    first + second
    for first in ("Ar", "Bo", "Cy", "De", "El", "Fi", "Gu", "Ha")
    for second in ("lix", "mon", "qun", "tus", "vex", "zor")
)
HELD_OUT_NAMES: tuple[str, ...] = tuple(name for name in CANDIDATE_NAMES if name.startswith(("Gu", "Ha")))
"""No training question shows a candidate under one of these: a policy that routes among them has learned no name."""
TRAINING_NAMES: tuple[str, ...] = tuple(name for name in CANDIDATE_NAMES if name not in HELD_OUT_NAMES)


@dataclass(frozen=True)
class Relation:
    """A typed function from the entities of a domain. The last phrasing is kept out of training questions."""

    name: str
    domain: Domain
    answer: AnswerType
    phrasings: tuple[str, str, str]


RELATIONS: tuple[Relation, ...] = (
    Relation("stone-quarry", "stone", "town", ("quarry", "source site", "dig place")),
    Relation("stone-hymn", "stone", "song", ("hymn", "praise tune", "ode")),
    Relation("stone-moss", "stone", "plant", ("moss", "lichen", "crust weed")),
    Relation("stone-finder", "stone", "person", ("finder", "discoverer", "first digger")),
    Relation("stone-hardness", "stone", "number", ("hardness", "scratch grade", "cutting grade")),
    Relation("song-chime", "song", "stone", ("chime gem", "bell rock", "amulet")),
    Relation("song-premiere", "song", "town", ("premiere venue", "debut stage", "opening hall")),
    Relation("song-reed", "song", "plant", ("reed", "flute cane", "drum wood")),
    Relation("song-composer", "song", "person", ("composer", "author", "writer")),
    Relation("song-tempo", "song", "number", ("tempo", "beat count", "pulse rate")),
    Relation("town-paving", "town", "stone", ("paving", "wall block", "gate slab")),
    Relation("town-anthem", "town", "song", ("anthem", "civic chant", "march")),
    Relation("town-crest", "town", "plant", ("crest flower", "park tree", "emblem leaf")),
    Relation("town-mayor", "town", "person", ("mayor", "head official", "governor")),
    Relation("town-census", "town", "number", ("census size", "head count", "resident total")),
    Relation("plant-mineral", "plant", "stone", ("soil mineral", "root grit", "bed gravel")),
    Relation("plant-lullaby", "plant", "song", ("lullaby", "harvest jingle", "reaper ballad")),
    Relation("plant-market", "plant", "town", ("nursery", "main market", "grower base")),
    Relation("plant-breeder", "plant", "person", ("breeder", "first grower", "namer")),
    Relation("plant-petals", "plant", "number", ("petal count", "stem height", "ring total")),
)
BY_NAME: dict[str, Relation] = {relation.name: relation for relation in RELATIONS}

FRAMES: dict[str, tuple[str, ...]] = {
    "plain": ("what is {np} ?",),
    "nq": ("what is {np} ?", "tell me {np} .", "{np} is what ?"),
    "triviaqa": ("name {np} .", "can you name {np} ?"),
    "popqa": ("what is {np} ?",),
    "hotpotqa": ("what is {np} ?", "tell me {np} .", "take {inner} : what is its {outer} ?"),
    "2wikimultihopqa": ("name {np} .", "for {inner} , give the {outer} ."),
    "musique": ("what is {np} ?", "name {np} ."),
    "bamboogle": ("{np} ?",),
}
"""How a chain of relations is asked, by style: `np` is the whole noun phrase, `inner` all but the last relation."""

COMPARE_FRAMES: dict[str, tuple[str, ...]] = {
    "hotpotqa": ("which has the higher {phrase} , {first} or {second} ?",),
    "2wikimultihopqa": ("does {first} or {second} have the higher {phrase} ?",),
}

PHRASINGS: dict[str, tuple[int, ...]] = {
    "plain": (0,),
    "nq": (0, 1),
    "triviaqa": (2,),
    "popqa": (0,),
    "hotpotqa": (0, 1),
    "2wikimultihopqa": (0, 2),
    "musique": (0, 1),
    "bamboogle": (1,),
}
"""Which phrasings of a relation a style uses: test sets meet wordings that training never shows."""

UNKNOWN, UNCLEAR = "i do not know", "i do not understand the question"
"""What an expert says that has no answer, or does not understand what it is asked."""


def words() -> tuple[str, ...]:
    """Every word of frames, relations and domains, sorted."""
    frames = [frame for group in (*FRAMES.values(), *COMPARE_FRAMES.values()) for frame in group]
    text = " ".join([*frames, *(p for relation in RELATIONS for p in relation.phrasings), *DOMAINS])
    return tuple(sorted({word for word in text.split() if word.isalpha()}))
