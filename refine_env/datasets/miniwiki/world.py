"""Builds a world: documents and questions, all from one seed.

The closed-vocabulary worlds of level `tiny` are made here, those of articles in `encyclopedia`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np

from refine_env.datasets.miniwiki import tiny
from refine_env.datasets.miniwiki.encyclopedia import ARTICLE_LEVELS, Encyclopedia, Part
from refine_env.datasets.miniwiki.schema import Chain, Kind, Relation, Schema
from refine_env.types import Document, Question

LEVELS: dict[str, Schema] = {"tiny": tiny.SCHEMA}
"""Level of closed vocabulary -> what it is made of."""

LEVEL_NAMES = (*LEVELS, *ARTICLE_LEVELS)

LARGEST_BUILT = 2_000_000
"""Documents that `build` holds in memory at most; they take about 2.5 GB."""

MOST_NAMESAKES = 4
"""Largest `noise` of level `tiny`: near-namesakes of each document."""

SPLITS = {"train": 0.6, "dev": 0.15, "test": 0.25}
"""Split -> its share of the things; no thing belongs to two splits."""


@dataclass(frozen=True, slots=True)
class World:
    """An invented encyclopedia and the questions on it."""

    level: str
    size: int
    world_seed: int
    questions: dict[str, tuple[Question, ...]]
    """Split -> questions. `metadata["hops"]` holds, hop by hop, the name to look up (`query`),
    the sentence that answers (`evidence`) and what it says (`value`)."""
    documents: tuple[Document, ...]


@dataclass(eq=False, slots=True)
class _Thing:
    id: str
    kind: str
    name: str
    facts: dict[str, str] = field(default_factory=dict)
    links: dict[str, _Thing] = field(default_factory=dict)
    sentences: dict[str, str] = field(default_factory=dict)


def build(
    level: str = "tiny",
    size: int | None = None,
    hops: int | Sequence[int] | None = None,
    world_seed: int = 0,
    noise: float | None = None,
) -> World:
    """The world of this seed: the same arguments always give the same world.

    `size` is the number of documents, `hops` the hop counts of the questions (None: all that the
    level usually has), `noise` the share of articles whose title is nearly that of another (None:
    the level's own). At level `tiny` noise is how many documents with a third name in between are
    put in beside each, on average (0 to 4; None: 0); they come on top of `size`, and facts and
    questions stay as they are. Raises `ValueError` for an unknown level, a size or a noise out of
    range or a hop count that the level does not have.
    """
    plan = _plan(level, size, hops, world_seed, noise)
    if isinstance(plan, Encyclopedia):
        if plan.size > LARGEST_BUILT:
            raise ValueError(
                f"a world of {plan.size} documents is too large to hold in memory: write it to "
                f"files with refine_env.datasets.miniwiki.stream(path, {level!r}, {plan.size})"
            )
        return _assemble(plan)
    return _build(*plan)


def parts(
    level: str = "full",
    size: int | None = None,
    hops: int | Sequence[int] | None = None,
    world_seed: int = 0,
    noise: float | None = None,
) -> Iterator[Part]:
    """The world of `build` in parts, in its order; only one part is in memory at a time."""
    plan = _plan(level, size, hops, world_seed, noise)
    if isinstance(plan, Encyclopedia):
        return plan.parts()
    world = _build(*plan)
    documents = Part("train", world.documents, ())
    return iter((documents, *(Part(split, (), found) for split, found in world.questions.items())))


def _plan(
    level: str,
    size: int | None,
    hops: int | Sequence[int] | None,
    world_seed: int,
    noise: float | None,
) -> Encyclopedia | tuple[str, int, tuple[int, ...], int, float]:
    """The checked arguments, with the level's own where none are given."""
    if level not in LEVEL_NAMES:
        raise ValueError(f"unknown MiniWiki level {level!r}; known: {', '.join(LEVEL_NAMES)}")
    if level in LEVELS:
        known, usual = LEVELS[level].hop_counts, LEVELS[level].default_hops
    else:
        known = usual = ARTICLE_LEVELS[level].hops
    wanted = (hops,) if isinstance(hops, int) else tuple(hops or usual)
    for count in wanted:
        if count not in known:
            raise ValueError(
                f"MiniWiki level {level!r} has questions of {_list(known)} hops, not of {count}"
            )
    if level in LEVELS:
        noise = 0.0 if noise is None else float(noise)
        if not 0 <= noise <= MOST_NAMESAKES:
            raise ValueError(f"noise must be in [0, {MOST_NAMESAKES}] at this level, got {noise}")
        size = LEVELS[level].default_size if size is None else size
        return level, size, wanted, world_seed, noise
    own = ARTICLE_LEVELS[level]
    return Encyclopedia(
        level=level,
        size=own.default_size if size is None else size,
        hops=wanted,
        world_seed=world_seed,
        noise=own.noise if noise is None else noise,
        splits=tuple(SPLITS.items()),
    )


def _assemble(plan: Encyclopedia) -> World:
    documents: list[Document] = []
    questions: dict[str, list[Question]] = {split: [] for split in SPLITS}
    for part in plan.parts():
        documents.extend(part.documents)
        questions[part.split].extend(part.questions)
    return World(
        plan.level,
        plan.size,
        plan.world_seed,
        {split: tuple(found) for split, found in questions.items()},
        tuple(documents),
    )


@lru_cache(maxsize=4)
def _build(level: str, size: int, hops: tuple[int, ...], world_seed: int, noise: float) -> World:
    schema = LEVELS[level]
    rng = np.random.default_rng([world_seed, size])
    splits = _make_things(schema, size, rng)
    questions = {}
    documents: list[Document] = []
    for split, things in splits.items():
        _make_facts(schema, things, rng)
        made = [_document(schema, thing) for thing in things]
        documents.extend(made)
        chains = [chain for chain in schema.chains if len(chain.relations) in hops]
        questions[split] = tuple(_questions(split, things, chains))
    if noise:
        documents += _namesakes(schema, splits, noise, np.random.default_rng([world_seed, size, 1]))
    order = rng.permutation(len(documents))
    return World(level, size, world_seed, questions, tuple(documents[i] for i in order))


def _make_things(schema: Schema, size: int, rng: np.random.Generator) -> dict[str, list[_Thing]]:
    """Draw names without repetition and deal them out to the splits."""
    largest = min(int(len(kind.first) * len(kind.last) / kind.share) for kind in schema.kinds)
    if not schema.smallest_size <= size <= largest:
        raise ValueError(
            f"size must be between {schema.smallest_size} and {largest} documents, got {size}"
        )
    splits: dict[str, list[_Thing]] = {split: [] for split in SPLITS}
    for kind, count in zip(schema.kinds, _counts(schema.kinds, size), strict=True):
        chosen = rng.choice(len(kind.first) * len(kind.last), count, replace=False)
        names = [
            f"{kind.first[i // len(kind.last)]} {kind.last[i % len(kind.last)]}" for i in chosen
        ]
        edges = np.round(np.cumsum([0.0, *SPLITS.values()]) * count).astype(int)
        for split, (start, stop) in zip(SPLITS, pairwise(edges), strict=True):
            for number in range(start, stop):
                thing_id = f"{kind.name}-{number}"
                splits[split].append(_Thing(thing_id, kind.name, names[number]))
    return splits


def _namesakes(
    schema: Schema, splits: dict[str, list[_Thing]], noise: float, rng: np.random.Generator
) -> list[Document]:
    """Documents about things that nothing asks about, each named as another with a third name in
    between. All of a smaller noise are among those of a larger one.
    """
    kinds = {kind.name: kind for kind in schema.kinds}
    documents = []
    for things in splits.values():
        wanted = round(noise * len(things))
        made = []
        for again in range(MOST_NAMESAKES):
            for place in rng.permutation(len(things)):
                thing = things[place]
                name = _longer_name(thing.name, kinds[thing.kind], again, rng)
                made.append(_Thing(f"{thing.id}-namesake-{again + 1}", thing.kind, name))
        _make_facts(schema, made, rng, known=things)
        documents += [_document(schema, thing) for thing in made[:wanted]]
    return documents


def _longer_name(name: str, kind: Kind, again: int, rng: np.random.Generator) -> str:
    """`name` with a word in between that is not of it; others for each time `again`."""
    first, last = name.split()
    words = max(kind.last, kind.first, key=len)
    start, stop = np.array([again, again + 1]) * len(words) // MOST_NAMESAKES
    between = [word for word in words[start:stop] if word not in (first, last)]
    return f"{first} {between[int(rng.integers(len(between)))]} {last}"


def _counts(kinds: Sequence[Kind], size: int) -> list[int]:
    """How many things of each kind; the counts add up to `size`."""
    edges = np.round(np.cumsum([0.0, *(kind.share for kind in kinds)]) * size).astype(int)
    return [int(count) for count in np.diff(edges)]


def _make_facts(
    schema: Schema,
    things: list[_Thing],
    rng: np.random.Generator,
    known: Sequence[_Thing] | None = None,
) -> None:
    """Give every thing its facts; linked things come from `known` (without it, from `things`)."""
    by_kind: dict[str, list[_Thing]] = {kind.name: [] for kind in schema.kinds}
    for thing in things if known is None else known:
        by_kind[thing.kind].append(thing)
    for thing in things:
        for relation in schema.relations_of(thing.kind):
            if isinstance(relation.values, str):
                others = [other for other in by_kind[relation.values] if other is not thing]
                target = others[int(rng.integers(len(others)))]
                thing.links[relation.name] = target
                value = target.name
            else:
                value = relation.values[int(rng.integers(len(relation.values)))]
            thing.facts[relation.name] = value
            thing.sentences[relation.name] = _sentence(schema, thing, relation, value)


def _sentence(schema: Schema, thing: _Thing, relation: Relation, value: str) -> str:
    pronoun = schema.pronouns.get(thing.name.split()[0], "It")
    return relation.sentence.format(name=thing.name, value=value, They=pronoun)


def _document(schema: Schema, thing: _Thing) -> Document:
    return Document(id=thing.id, title=thing.name, text=" ".join(thing.sentences.values()))


def _questions(split: str, things: list[_Thing], chains: list[Chain]) -> list[Question]:
    """All questions whose answer does not already stand in the document of the first hop."""
    questions = []
    for thing in things:
        for chain in chains:
            path = _follow(thing, chain)
            if path is None:
                continue
            answer = path[-1].facts[chain.relations[-1]]
            if len(path) > 1 and any(answer in text for text in path[0].sentences.values()):
                continue
            hops = [
                {"query": step.name, "evidence": step.sentences[name], "value": step.facts[name]}
                for step, name in zip(path, chain.relations, strict=True)
            ]
            questions.append(
                Question(
                    id=f"miniwiki:{thing.id}:{'.'.join(chain.relations)}",
                    text=chain.question.format(name=thing.name),
                    answers=(answer,),
                    dataset="miniwiki",
                    split=split,
                    hops=len(path),
                    type="single" if len(path) == 1 else "bridge",
                    supporting_ids=tuple(step.id for step in path),
                    metadata={"hops": hops},
                )
            )
    return questions


def _follow(thing: _Thing, chain: Chain) -> list[_Thing] | None:
    """The things whose documents the chain passes; None where it does not start at this kind."""
    path = [thing]
    for name in chain.relations[:-1]:
        if name not in path[-1].links:
            return None
        path.append(path[-1].links[name])
    if chain.relations[-1] not in path[-1].facts or len(set(path)) < len(path):
        return None
    return path


def _list(numbers: Sequence[int]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} and {last}" if most else last
