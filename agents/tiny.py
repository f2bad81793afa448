"""The tiny policy: 0.2 M parameters and the closed vocabulary of MiniWiki's level `tiny`.

It is small enough to be trained by GRPO on a laptop in minutes, and knows nothing but the words
of that world. The shipped checkpoint is made by `python -m agents.warm_start`.
"""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from refine_env.datasets.miniwiki.world import LEVELS
from refine_env.protocols import Protocol, load_protocol

FOLDER = Path(__file__).parent / "assets" / "tiny"
"""The shipped checkpoint with its tokenizer and protocol."""
PROTOCOL_FILE = FOLDER / "protocol.toml"

_TOKEN = r"</?\w+>|\\boxed\{|\w+|[^\w\s]"
_SPECIAL = ("<pad>", "<eos>", "<unk>")
_MAX_DOCUMENTS = 9
CONTEXT = 1024
"""Tokens that the shipped policy may read."""


def vocabulary(*protocols: Protocol) -> list[str]:
    """Every word that the world and the protocols can put before the policy, their tags, and what
    it takes to write an answer in them.
    """
    schema = LEVELS["tiny"]
    texts = [word for kind in schema.kinds for word in (*kind.first, *kind.last)]
    for relation in schema.relations:
        texts.append(relation.sentence)
        if not isinstance(relation.values, str):
            texts.extend(relation.values)
    texts.extend(chain.question for chain in schema.chains)
    texts.extend(schema.pronouns.values())
    tags: dict[str, None] = {}
    for protocol in protocols:
        texts += [protocol.format_instruction("", 3), protocol.format_hint(3), protocol.document]
        names = [getattr(protocol.tags, item.name) for item in fields(protocol.tags)]
        tags |= {tag: None for name in names if name for tag in (f"<{name}>", f"</{name}>")}
        if protocol.answer_format == "boxed":
            texts.append("\\boxed{ }")
    words = {word for text in texts for word in re.findall(_TOKEN, re.sub(r"{\w+}", " ", text))}
    words |= {str(number) for number in range(1, _MAX_DOCUMENTS + 1)}
    words.add("It")
    return [*_SPECIAL, *tags, *sorted(words - set(tags))]


def build_tokenizer(*protocols: Protocol) -> Any:
    """A word-level tokenizer: a token for each word, mark and tag; white space is lost. Without
    protocols, for that of the shipped policy.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = vocabulary(*(protocols or (load_protocol(PROTOCOL_FILE),)))
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_TOKEN), behavior="removed", invert=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )


def build_model(
    tokenizer: Any, *, seed: int, layers: int = 3, hidden: int = 64, context: int = CONTEXT
) -> Any:
    """A Qwen2-shaped model with random weights; it may read `context` tokens."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 5 // 2,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=context,
        initializer_range=0.06,  # narrow layers start too quiet with the usual 0.02
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)
