"""Makes the tiny policy that ships with the project: `python -m agents.warm_start --help`.

Two supervised stages: repeating random tokens, without which a model this small does not learn to
copy, then episodes of a scripted policy that is wrong on purpose. It often reads the wrong
sentence, and often answers a two-hop question after one search, so that reinforcement learning
finds something to improve.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agents import tiny
from agents.context import shown
from agents.engines.fake import FakeEngine
from agents.reading import write_turn
from agents.rollout import Codec, TokenLimits, collect
from agents.sft import IGNORED_LABEL, SFTSettings, rollout_features, train_sft
from refine_env.config import Components, EnvConfig, build
from refine_env.datasets.miniwiki.world import SPLITS
from refine_env.protocols import Protocol
from refine_env.types import Question, Transcript

Features = dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Habits:
    """How the scripted policy behaves."""

    reads_right: float = 0.75
    """Chance to refine the sentence that the question asks for, rather than a neighbour."""
    looks_further: float = 0.4
    """Chance to search again when the first hop is not yet the answer."""
    searches: int | None = None
    """Searches at most: after them it answers with what it read last. With none it answers at once,
    as it would have in the end. None: as many as it likes."""
    notes_as_thoughts: bool = False
    """Where the protocol has no refine block: write what would stand in it as a thought."""
    drops_documents: bool = False
    """Show the turns that follow refined documents once more with those documents dropped."""


def copying_features(
    count: int, vocabulary_size: int, generator: np.random.Generator, longest: int = 32
) -> list[Features]:
    """Random tokens, a stretch of others, and the first again, which alone is learned.

    The distance differs from sequence to sequence: at a fixed one a model learns the distance, and
    copying by content, which reading documents needs, does not appear.
    """
    features = []
    for _ in range(count):
        length = int(generator.integers(longest // 2, longest + 1))
        gap = int(generator.integers(0, longest // 2))
        ids = generator.integers(3, vocabulary_size, size=length + gap).tolist()
        copied = ids[:length]
        ignored = [IGNORED_LABEL] * (length + gap + 1)
        features.append({"input_ids": ids + copied, "labels": ignored + copied[1:]})
    return features


def scripted_features(
    components: Components, codec: Codec, seed: int, habits: Habits = Habits()
) -> list[Features]:
    """An episode of the scripted policy on every question: (tokens, labels on what it wrote)."""
    questions = components.questions
    neighbours = _facts_by_document(questions)
    scripts: dict[int, list[str]] = {}

    def write_turn(row: int, turn: int, generator: np.random.Generator) -> Sequence[int]:
        if turn == 0:
            scripts[row] = _script(
                questions[row], components.protocol, neighbours, generator, habits
            )
        return codec.encode(scripts[row][turn])

    rollouts = collect(
        components,
        FakeEngine(write_turn),
        codec,
        questions,
        limits=TokenLimits(64, 900),
        run_seed=seed,
    )
    features = [rollout_features(rollout) for rollout in rollouts]
    if habits.drops_documents:
        for rollout in rollouts:
            features += _without_documents(rollout.episode.transcript, components.protocol, codec)
    return features


def _without_documents(transcript: Transcript, protocol: Protocol, codec: Codec) -> list[Features]:
    """A row for each turn before which documents have been refined, as it looks without them; the
    turn alone is learned."""
    rows = []
    for place, segment in enumerate(transcript.segments):
        prompt = Transcript(transcript.segments[:place])
        if segment.source == "policy" and (read := shown(prompt, protocol, "refined")) != prompt:
            ids, _ = codec.encode_transcript(read)
            written = [*codec.encode(segment.text)]
            labels = [IGNORED_LABEL] * len(ids) + written
            rows.append({"input_ids": [*ids, *written], "labels": labels})
    return rows


def _facts_by_document(questions: Sequence[Question]) -> dict[str, list[dict[str, str]]]:
    """Document id -> the facts (evidence and value) that one-hop questions ask of it."""
    facts: dict[str, list[dict[str, str]]] = {}
    for question in questions:
        if question.hops == 1:
            facts.setdefault(question.supporting_ids[0], []).extend(question.metadata["hops"])
    return facts


def _script(
    question: Question,
    protocol: Protocol,
    neighbours: dict[str, list[dict[str, str]]],
    generator: np.random.Generator,
    habits: Habits,
) -> list[str]:
    """The turns of one episode. What is read does not depend on the protocol."""
    read = _facts_read(question, neighbours, generator, habits)
    searches = len(read) if habits.searches is None else min(habits.searches, len(read))
    if not searches:
        return [write_turn(protocol, answer=read[-1]["value"])]
    queries = [question.metadata["hops"][0]["query"], *(fact["value"] for fact in read)]
    evidence = ["", *(fact["evidence"] for fact in read)]
    notes = [{"think" if habits.notes_as_thoughts else "refine": text} for text in evidence]
    turns = [
        write_turn(protocol, **notes[number], query=queries[number]) for number in range(searches)
    ]
    answer = read[searches - 1]["value"]
    return [*turns, write_turn(protocol, **notes[searches], answer=answer)]


def _facts_read(
    question: Question,
    neighbours: dict[str, list[dict[str, str]]],
    generator: np.random.Generator,
    habits: Habits,
) -> list[dict[str, str]]:
    """What the scripted policy takes from each of its searches; the last is what it answers."""
    hops = question.metadata["hops"]
    read: list[dict[str, str]] = []
    for number, (hop, document_id) in enumerate(zip(hops, question.supporting_ids, strict=True)):
        others = [fact for fact in neighbours[document_id] if fact["value"] != hop["value"]]
        right = generator.random() < habits.reads_right or not others
        read.append(hop if right else others[int(generator.integers(len(others)))])
        last = number == len(hops) - 1
        if last or not right or generator.random() >= habits.looks_further:
            break
    return read


def pretrain(model: Any, tokenizer: Any, steps: int, seed: int, *, quiet: bool = False) -> None:
    """Teach a model of random weights to copy, in place. `quiet` prints no losses."""
    generator = np.random.default_rng([seed, 0])
    features = copying_features(steps * 32, len(tokenizer), generator)
    settings = SFTSettings(steps=steps, learning_rate=3e-3, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        train_sft(model, tokenizer, features, settings, folder, quiet=quiet)


def imitate(
    model: Any,
    tokenizer: Any,
    demonstrations: Sequence[tuple[str | Path, Habits]],
    *,
    steps: int,
    seed: int,
    worlds: Sequence[int],
    hops: Sequence[int] | None = None,
    depths: Sequence[int] = (),
    learning_rate: float = 2e-3,
    micro_batch: int | None = None,
    quiet: bool = False,
) -> None:
    """Teach a model what scripted policies, each of a protocol with habits, do on every question of
    the worlds of these seeds, in place. With the same habits and seed they do the same in every
    protocol. `depths` are the documents of a search, of each world in turn; without any it is as
    the environment has it. `quiet` prints no losses.
    """
    codec, features = Codec(tokenizer), []
    for protocol, habits in demonstrations:
        for config in imitated_worlds(worlds, hops, depths):
            components = build(replace(config, protocol=protocol))
            features += scripted_features(components, codec, seed, habits)
    settings = SFTSettings(
        steps=steps,
        learning_rate=learning_rate,
        seed=seed,
        group_by_length=micro_batch is not None,
        micro_batch=micro_batch,
    )
    with tempfile.TemporaryDirectory() as folder:
        train_sft(model, tokenizer, features, settings, folder, quiet=quiet)


def imitated_worlds(
    worlds: Sequence[int], hops: Sequence[int] | None, depths: Sequence[int] = ()
) -> Iterator[EnvConfig]:
    """Every split of the worlds of these seeds, each world with its depth."""
    for number, world_seed in enumerate(worlds):
        for split in SPLITS:
            config = EnvConfig(dataset="miniwiki", split=split, world_seed=world_seed, hops=hops)
            yield replace(config, top_k=depths[number % len(depths)]) if depths else config


def make(output_dir: Path, *, seed: int, worlds: int, copy_steps: int, episode_steps: int) -> None:
    """Train a tiny policy from random weights and save it with its tokenizer.

    The worlds of the episodes are those of the seeds 1, 2, ...; the demo's world is that of seed 0,
    so no fact of it is seen here.
    """
    tokenizer = tiny.build_tokenizer()
    model = tiny.build_model(tokenizer, seed=seed)
    pretrain(model, tokenizer, copy_steps, seed)
    imitate(
        model,
        tokenizer,
        [(tiny.PROTOCOL_FILE, Habits())],
        steps=episode_steps,
        seed=seed,
        worlds=range(1, worlds + 1),
    )
    model.save_pretrained(output_dir, safe_serialization=True)
    tokenizer.save_pretrained(output_dir)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=tiny.FOLDER, help="folder of the policy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, default=8, help="worlds that the episodes are from")
    parser.add_argument("--copy-steps", type=int, default=1000)
    parser.add_argument("--episode-steps", type=int, default=800)
    arguments = parser.parse_args()
    make(
        arguments.output,
        seed=arguments.seed,
        worlds=arguments.worlds,
        copy_steps=arguments.copy_steps,
        episode_steps=arguments.episode_steps,
    )


if __name__ == "__main__":
    main()
