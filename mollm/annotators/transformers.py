"""Hugging Face transformers in this process, on the CPU or one GPU.

The part of the prompt that all texts share (instruction, labels, few shots) is read once, and its keys and values are
kept. So a text costs only its own tokens. Texts are batched by length. Scoring generates no text.
"""

from __future__ import annotations

import contextlib
import copy
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mollm.annotators import Annotator, Answer, Needs
from mollm.annotators._loaded import Loaded, device_of, directory, dtype_of, load
from mollm.annotators._one_pass import OnePass, Question, Read, prompts_for
from mollm.config import AnnotatorConfig
from mollm.errors import ConfigError
from mollm.prompts import Prompt, Shot
from mollm.prompts.coding import Path as TokenPath
from mollm.prompts.coding import TokenTree, branches, easy
from mollm.prompts.parsing import parse_answer, parse_code
from mollm.records import FloatArray, LabelSet

MARK = "\ue000\ue001"  # private-use characters: they stand for the text while the chat template is rendered
CHARACTERS_A_TOKEN = 16  # more than any tokenizer's mean: a text that is cut by it before tokenizing would not fit


@dataclass(slots=True)
class _Frame:
    """One prompt as tokens: `before` + text + `after`. `cache`: the keys and values of `before`, None until needed."""

    before: list[int]
    after: list[int]
    cache: Any = None


class Transformers(Annotator):
    """A causal language model from a directory."""

    runtime = "transformers"
    prompts: list[Prompt]
    frames: list[_Frame]
    room: int
    one_pass: OnePass
    loaded: Loaded | None
    cache_name: str  # of the argument that takes keys and values

    def __init__(
        self, config: AnnotatorConfig, labels: LabelSet, instruction: str, shots: Sequence[Shot], models_dir: Path
    ) -> None:
        super().__init__(config, labels, instruction, shots, models_dir)
        self.torch, self.loaded = load(config, models_dir)
        self.model, self.tokenizer = self.loaded.model, self.loaded.tokenizer
        self.cache_name = self.loaded.cache_name
        self.window = min(config.max_tokens, getattr(self.model.config, "max_position_embeddings", config.max_tokens))
        self._prepare(coded=config.coding == "codes")
        if config.coding == "auto" and config.mode == "score" and not easy(self.one_pass.trees):
            self._try_codes()

    @classmethod
    def needs(cls, config: AnnotatorConfig, models_dir: Path) -> Needs:
        """Memory: the size of the weight files, twice that if loaded as float32, and half of it more to work with."""
        device = device_of(config)
        weights = sum(file.stat().st_size for file in directory(config, models_dir).glob("*.safetensors"))
        size = int(1.5 * weights * (2 if dtype_of(config, device) == "float32" else 1))
        return Needs(device, size, str(directory(config, models_dir)))

    def _try_codes(self) -> None:
        """Use codes instead of labels if they need fewer places and fit into the window."""
        kept = self.prompts, self.frames, self.room, self.one_pass
        with contextlib.suppress(ConfigError):
            self._prepare(coded=True)
            if branches(self.one_pass.trees) < branches(kept[-1].trees):
                return
        self.prompts, self.frames, self.room, self.one_pass = kept

    def _prepare(self, *, coded: bool) -> None:
        duplicates = len(set(map(self.labels.text_of, range(self.labels.C)))) < self.labels.C
        coded = coded or (self.config.coding == "auto" and duplicates)
        self.prompts = prompts_for(self.config, self.labels, self.instruction, self.shots, coded=coded)
        self.frames = [self._frame(prompt) for prompt in self.prompts]
        plain = self.prompts[0].kind == "plain"
        end = self._tokens("\n")[-1] if plain else self.tokenizer.eos_token_id  # the token after a complete label
        trees = [
            TokenTree(prompt.answers, [self._tokens(answer) for answer in prompt.answers], self._single, end)
            for prompt in self.prompts
        ]
        longest = max(len(path) for tree in trees for path in tree.paths)
        self.room = self.window - longest - max(len(frame.before) + len(frame.after) for frame in self.frames)
        if self.room < 1:
            longer = (
                "raise max_tokens" if self.window == self.config.max_tokens
                else f"set max_tokens = {self.window}, all that this model reads, so that examples are shortened"
            )  # fmt: skip
            raise ConfigError(
                f"{self.name}: instruction, labels and few shots alone overfill the window of {self.window} tokens: "
                f"shorten the descriptions, use fewer shots, or {longer}."
            )
        self.one_pass = OnePass(self.config, trees, self._ask)

    def annotate_batch(self, texts: Sequence[str]) -> list[Answer]:
        if self.config.mode == "sample":
            return [self._sample(text) for text in texts]
        return self.one_pass.annotate(texts)

    def write(self, request: str, tokens: int) -> str:
        torch, text = self.torch, request
        if self.tokenizer.chat_template:
            messages = [{"role": "user", "content": request}]
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = self.tokenizer(text, add_special_tokens=not self.tokenizer.chat_template, return_tensors="pt").input_ids
        ids = ids[:, -max(1, self.window - tokens) :].to(self.model.device)
        with torch.inference_mode():
            out = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens,
                pad_token_id=self.tokenizer.eos_token_id or 0,
            )  # fmt: skip
        return str(self.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()

    def describe(self) -> str:
        tokens = len(self.frames[0].before)
        coding = "codes" if self.prompts[0].coded else "labels"
        return (
            f"{self.name}: {self.config.model} in process on {self.model.device}, {self.config.mode} by {coding}, "
            f"{tokens} shared prompt tokens read once"
        )

    def close(self) -> None:
        self.frames, self.model, self.loaded = [], None, None
        gc.collect()
        if self.torch.cuda.is_available():
            self.torch.cuda.empty_cache()

    def _tokens(self, text: str) -> list[int]:
        """Token ids of a text. What looks like a special token in it is read as plain text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def _single(self, piece: str) -> int | None:
        """The single token whose text is `piece`, or None."""
        tokens = self._tokens(piece)
        return tokens[0] if len(tokens) == 1 and self.tokenizer.decode(tokens) == piece else None

    def _frame(self, prompt: Prompt) -> _Frame:
        if prompt.kind == "plain":
            start = [self.tokenizer.bos_token_id] if _wants_bos(self.tokenizer) else []
            return _Frame(start + self._tokens(prompt.before), self._tokens(prompt.after))
        if not self.tokenizer.chat_template:
            raise ConfigError(f"{self.name}: {self.config.model} has no chat template: set prompt = 'plain'.")
        messages = prompt.messages(MARK)
        whole = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        before, after = (whole + prompt.prefill).split(MARK)
        encode = self.tokenizer.encode
        return _Frame(encode(before, add_special_tokens=False), encode(after, add_special_tokens=False))

    def _text_tokens(self, text: str) -> tuple[list[int], bool]:
        """(the text's tokens, cut at the end to `room` tokens, whether anything was cut)."""
        piece = self.prompts[0].piece(text)
        cut = piece[: self.room * CHARACTERS_A_TOKEN]
        tokens = self._tokens(cut)
        return tokens[: self.room], len(cut) < len(piece) or len(tokens) > self.room

    def _ask(self, texts: Sequence[str], places: Sequence[Question]) -> list[Read]:
        pieces = {n: self._text_tokens(texts[n]) for n in {place.n for place in places}}
        sequences = [pieces[place.n][0] + self.frames[place.order].after + list(place.path) for place in places]
        by_length = sorted(range(len(places)), key=lambda k: len(sequences[k]))
        groups: dict[tuple[int, TokenPath], list[int]] = {}
        for k in by_length:
            further = places[k].further
            groups.setdefault((places[k].order, further.path if further else ()), []).append(k)
        reads: dict[int, Read] = {}
        for (order, path), mine in groups.items():
            for start in range(0, len(mine), self.config.batch_size):
                batch = mine[start : start + self.config.batch_size]
                steps = self._next_logprobs(self.frames[order], [sequences[k] for k in batch], path[-1:])
                for row, k in enumerate(batch):
                    further = places[k].further
                    along = Read(_chosen(steps[1][row], further)) if further else None
                    length = len(self.frames[order].before) + len(sequences[k])
                    cut = pieces[places[k].n][1]
                    reads[k] = Read(_chosen(steps[0][row], places[k]), length, 0, cut, further=along)
        return [reads[k] for k in range(len(places))]

    def _next_logprobs(self, frame: _Frame, sequences: list[list[int]], forced: TokenPath = ()) -> list[Any]:
        """Arrays (B, V) of log-probabilities in nats: after `frame.before` + sequence, then after each `forced` token.

        B sequences, padded on the left; V tokens of the vocabulary. A forced token reuses all earlier keys and values.
        """
        torch = self.torch
        known, width = len(frame.before), max(map(len, sequences))
        pads = [width - len(sequence) for sequence in sequences]
        fill = self.tokenizer.eos_token_id or 0
        ids = torch.tensor([[fill] * pad + sequence for pad, sequence in zip(pads, sequences, strict=True)])
        offset = torch.tensor(pads).unsqueeze(1)
        place = torch.arange(width).unsqueeze(0) - offset
        mask = torch.cat([torch.ones(len(pads), known, dtype=torch.long), (place >= 0).long()], dim=1)
        found = []
        with torch.inference_mode():
            cache = copy.deepcopy(self._cache(frame))
            cache.batch_repeat_interleave(len(sequences))
            for token in (None, *forced):
                if token is not None:
                    ids, place = torch.full((len(pads), 1), token), place[:, -1:] + 1
                    mask = torch.cat([mask, torch.ones(len(pads), 1, dtype=torch.long)], dim=1)
                device = self.model.device
                out = self.model(
                    input_ids=ids.to(device), attention_mask=mask.to(device), logits_to_keep=1, use_cache=True,
                    position_ids=(known + place.clamp(min=0)).to(device), **{self.cache_name: cache},
                )  # fmt: skip
                found.append(torch.log_softmax(out.logits[:, -1].float(), dim=-1))
        return found

    def _cache(self, frame: _Frame) -> Any:
        if frame.cache is None:
            from transformers import DynamicCache

            frame.cache = DynamicCache(config=self.model.config)
            ids = self.torch.tensor([frame.before], device=self.model.device)
            self.model(input_ids=ids, logits_to_keep=1, use_cache=True, **{self.cache_name: frame.cache})
        return frame.cache

    def _sample(self, text: str) -> Answer:
        """T sampled answers, parsed, as in the paper: for comparison, and for labels that cannot be coded."""
        torch, config, prompt, frame = self.torch, self.config, self.prompts[0], self.frames[0]
        tokens, truncated = self._text_tokens(text)
        ids = torch.tensor([frame.before + tokens + frame.after], device=self.model.device)
        length = max(len(self._tokens(answer)) for answer in prompt.answers) + 4
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(int(self.fingerprint[:8], 16) ^ (hash_of(text) & 0xFFFFFFFF))
            out = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=config.temperature,
                top_p=config.top_p, top_k=0, num_return_sequences=config.samples, max_new_tokens=length,
                pad_token_id=self.tokenizer.eos_token_id or 0,
            )  # fmt: skip
        answers = self.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
        counts = np.zeros(self.labels.C)
        for answer in answers:
            first = answer.strip().split("\n")[0] if prompt.kind == "plain" else answer
            parse = parse_code if prompt.coded else parse_answer
            found = parse(first, [a.strip() for a in prompt.answers])
            if found is not None:
                counts[found] += 1
        written = int(out.shape[0] * (out.shape[1] - ids.shape[1]))
        votes, silent = counts / config.samples, 1 - float(counts.sum()) / config.samples
        return Answer(votes.copy(), votes, silent, ids.shape[1], written, truncated, calls=1)


def hash_of(text: str) -> int:
    """A number from a text's content address. It is the same in every process."""
    from mollm.records import digest

    return int(digest(text)[:8], 16)


def _chosen(logprobs: Any, place: Question) -> FloatArray:
    """(K,) float64 log-probabilities of the asked tokens, from a row (V,)."""
    return np.asarray(logprobs[list(place.tokens)].double().cpu().numpy())


def _wants_bos(tokenizer: Any) -> bool:
    return tokenizer.bos_token_id is not None and tokenizer.bos_token_id in tokenizer.encode("a")[:1]
