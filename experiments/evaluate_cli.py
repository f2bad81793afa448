"""The commands `refine-env evaluate` and `refine-env compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from experiments import agent_options
from experiments.cli_options import (
    Corpus,
    MaxTurns,
    ProtocolName,
    Retriever,
    Reward,
    SkipInvalid,
    TopK,
)

app = typer.Typer()


class _ManyValues(typer.core.TyperCommand):
    """A command whose options may be followed by several values: `--seeds 0 1 2`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        repeated = {
            name
            for parameter in self.params
            if getattr(parameter, "multiple", False)
            for name in parameter.opts
        }
        spread: list[str] = []
        option = None
        for arg in args:
            if arg in repeated:
                option, given = arg, False
            elif arg.startswith("-") and not arg[1:].isdigit():
                option = None
            if option is not None and arg != option:
                spread += [option] if given else []
                given = True
            spread.append(arg)
        return super().parse_args(ctx, spread)


@app.command(
    cls=_ManyValues,
    epilog="Examples: `refine-env evaluate --agent oracle`; `refine-env evaluate --agent "
    "naive-rag+hf:tiny --questions 50`; `refine-env evaluate --env hotpotqa nq --data-dir data "
    "--agent my_agent.py:MyAgent --questions 200 --seeds 0 1 2 --context both --workers 4 --output "
    "runs/mine`",
)
def evaluate(
    env: Annotated[
        list[str] | None,
        typer.Option("--env", help="Ids of environments, or their datasets' names; MiniWiki."),
    ] = None,
    agent: Annotated[
        str,
        typer.Option(
            help="A scripted one (oracle, single-search, closed-book, random), one that games the "
            "reward (document-copier, refine-everything, substring-spammer, tag-forger, "
            "candidate-lister), a model on this machine (hf:FOLDER, hf:HUB-NAME; hf:tiny ships "
            "with this) or on a server (openai:MODEL), or your own (module:Class, file.py:Class); "
            "with direct+ or naive-rag+ before a model or your own, that baseline."
        ),
    ] = "single-search",
    questions: Annotated[
        int | None, typer.Option(help="How many of each environment, drawn with --seed.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, dev or test; the first of test, dev, train without.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder with the dataset's files; of several, with a folder for each."),
    ] = None,
    corpus: Corpus = None,
    retriever: Retriever = None,
    top_k: TopK = None,
    max_turns: MaxTurns = None,
    protocol: ProtocolName = None,
    reward: Reward = None,
    seed: Annotated[int, typer.Option(help="Draws the questions.")] = 0,
    seeds: Annotated[
        list[int] | None, typer.Option(help="Seeds of the agent, each on every question; --seed.")
    ] = None,
    context: Annotated[
        str, typer.Option(help="full, refined (without documents that were refined), or both.")
    ] = "full",
    batch_size: Annotated[int, typer.Option(help="Episodes side by side.", min=1)] = 64,
    workers: Annotated[int | None, typer.Option(help="Processes, or workers on Ray.")] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Run the workers on a Ray cluster.")] = False,
    gpus_per_worker: Annotated[float, typer.Option(help="GPUs that a Ray worker reserves.")] = 0.0,
    skip_invalid: SkipInvalid = False,
    wandb: Annotated[bool, typer.Option("--wandb", help="Send the table to W&B, too.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; an interrupted one goes on where it was."),
    ] = None,
    temperature: agent_options.Temperature = None,
    top_p: agent_options.TopP = None,
    max_tokens: agent_options.MaxTokens = None,
    chat: agent_options.Chat = None,
    context_tokens: agent_options.ContextTokens = None,
    device: agent_options.Device = None,
    dtype: agent_options.Dtype = None,
    base_url: agent_options.BaseUrl = None,
    api: agent_options.Api = None,
    concurrency: agent_options.Concurrency = None,
    timeout: agent_options.Timeout = None,
    attempts: agent_options.Attempts = None,
    prices: agent_options.Prices = None,
    key_variable: agent_options.KeyVariable = None,
    body: agent_options.Body = None,
) -> None:
    """Run an agent over datasets' questions and report the metrics with intervals."""
    from experiments import evaluate as evaluation

    settings = evaluation.EvaluateConfig(
        envs=tuple(env or ["AutoRefine-MiniWiki-v0"]),
        agent=agent,
        questions=questions,
        split=split,
        data_dir=data_dir,
        corpus=corpus,
        retriever=retriever,
        top_k=top_k,
        max_turns=max_turns,
        protocol=protocol,
        reward=reward,
        seed=seed,
        seeds=tuple(seeds or ()),
        context=context,  # type: ignore[arg-type]  # checked there
        batch_size=batch_size,
        workers=workers,
        ray=ray,
        gpus_per_worker=gpus_per_worker,
        skip_invalid=skip_invalid,
        wandb=wandb,
        output=output,
        agent_options=agent_options.given(
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            chat=chat,
            context_tokens=context_tokens,
            device=device,
            dtype=dtype,
            base_url=base_url,
            api=api,
            concurrency=concurrency,
            timeout=timeout,
            attempts=attempts,
            prices=prices,
            key_variable=key_variable,
            body=body,
        ),
    )
    evaluation.run(settings)


@app.command(
    epilog="Examples: `refine-env compare runs/one runs/other`; `refine-env compare runs/both "
    "--metric em --output runs/compare`"
)
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of evaluations; the first is the base.")
    ],
    metric: Annotated[str, typer.Option(help="By which questions are won and lost.")] = "f1",
    output: Annotated[Path | None, typer.Option(help="Folder for JSON, Markdown and plot.")] = None,
) -> None:
    """Compare runs on the same questions: differences with intervals, p-values, wins and losses."""
    from experiments import compare as comparing

    comparing.run(runs, metric, output)
