"""Any OpenAI-compatible server: vLLM first; llama.cpp's server and Ollama with what they support.

Probes with known answers test what a server can do: that it accepts a parameter does not mean that it obeys it.
The ways to ask, best first: exact log-probabilities of the label tokens (vLLM's `logprob_token_ids`, llama.cpp's
`logit_bias` with `post_sampling_probs`), the most probable tokens (`top_logprobs`), T samples constrained to the
labels (`structured_outputs` choice, a JSON schema), T free samples that are parsed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from mollm.annotators import Annotator, Answer
from mollm.annotators._biased_tokens import BiasedTokens
from mollm.annotators._http import Busy, Hangs, Refused, Trouble, key_of
from mollm.annotators._samples import Samples
from mollm.annotators._servers import Servers
from mollm.annotators._thinking import AS_IS, SWITCHES, UNSTOPPED, Switch, Thinks
from mollm.annotators._token_ids import TokenIds
from mollm.annotators._top_tokens import TopTokens
from mollm.annotators._ways import Way
from mollm.config import AnnotatorConfig
from mollm.errors import AnnotatorError, AnnotatorUnavailable, ConfigError
from mollm.prompts import Shot
from mollm.records import LabelSet

# What comes of a reply that does not have the form that a way needs.
MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError)


class OpenAI(Annotator):
    """One served model. `url` is its endpoint, or a list of them, with or without /v1; `model` its name there."""

    runtime = "openai"

    def __init__(
        self,
        config: AnnotatorConfig,
        labels: LabelSet,
        instruction: str,
        shots: Sequence[Shot],
        models_dir: Path,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(config, labels, instruction, shots, models_dir)
        if not config.url:
            raise self.no_server(config)
        key = key_of(config)
        self.server = Servers(config.urls, key, config.timeout, config.concurrency, transport=transport, sleep=sleep)
        try:
            self.window = self._check_model()
            self.way = self._choose_way()
            self.room = self.way.room
        except Trouble as trouble:
            self.close()
            raise AnnotatorUnavailable(f"{config.name}: {trouble}") from None
        except BaseException:
            self.close()
            raise

    @staticmethod
    def no_server(config: AnnotatorConfig) -> AnnotatorError | ConfigError:
        """What is raised where the panel gives no `url`."""
        return ConfigError(f"{config.name}: runtime `openai` needs `url`, the address of the server.")

    def annotate_batch(self, texts: Sequence[str]) -> list[Answer]:
        if self.server.hung and not self.server.is_up():
            raise AnnotatorUnavailable(f"{self.name}: {self.server.last}")
        try:
            answers = self.way.annotate(texts)
        except MALFORMED as error:
            raise AnnotatorError(
                f"{self.name}: {self.server.url} replied in no form that is known: {error!r}"
            ) from None
        troubled = [answer.error for answer in answers if answer.error.startswith(Way.TROUBLE)]
        # While it answers, only the failed texts abstain; if it does not, all texts are asked again later.
        if troubled and (len(troubled) == len(answers) or not self.server.is_up()):
            raise AnnotatorUnavailable(f"{self.name}: {troubled[0]}")
        return answers

    def write(self, request: str, tokens: int) -> str:
        body = {"model": self.config.model, "messages": [{"role": "user", "content": request}], "max_tokens": tokens,
                "temperature": 0}  # fmt: skip
        reply = self.server.call("POST", "/v1/chat/completions", body)
        choices = reply.get("choices") or [{}]
        return str((choices[0].get("message") or {}).get("content") or "").strip()

    def describe(self) -> str:
        return f"{self.name}: {self.config.model} at {self.server.url}, {self.way.describe()}"

    def close(self) -> None:
        if hasattr(self, "way"):
            self.way.close()
        self.server.close()

    def _check_model(self) -> int:
        """The window in tokens. Raises AnnotatorError if the model is not served, with the names that are."""
        served = self.server.call("GET", "/v1/models").get("data") or []
        names = {str(model.get("id")): model for model in served if isinstance(model, dict)}
        found = names.get(self.config.model) or names.get(f"{self.config.model}:latest")
        if found is None:
            raise AnnotatorError(
                f"{self.name}: {self.server.url} serves {sorted(names) or 'nothing'}, not {self.config.model!r}: "
                "correct `model` in the panel file or start the server with it."
            )
        window = found.get("max_model_len") or (found.get("meta") or {}).get("n_ctx")  # vLLM's name, llama.cpp's name
        return min(self.config.max_tokens, int(window or self.config.max_tokens))

    def _choose_way(self) -> Way:
        """The first way that passes its probe, with thinking switched off if need be. Raises AnnotatorError if none
        does."""
        tried: list[str] = []
        thinks = False
        for kind in (TokenIds, BiasedTokens, TopTokens, Samples) if self.config.mode == "score" else (Samples,):
            for switch in SWITCHES:
                way, refusal = self._probed(kind, switch)
                if way is not None:
                    return way
                thinks = thinks or isinstance(refusal, Thinks)
                if switch is AS_IS:
                    tried.append(
                        f"{kind.__name__}: {refusal if isinstance(refusal, AnnotatorError) else repr(refusal)}"
                    )
                    if not isinstance(refusal, Thinks):
                        break
        why = f"{UNSTOPPED}; " if thinks else ""
        raise AnnotatorError(f"{self.name}: {self.server.url} can do nothing of use; {why}" + "; ".join(tried))

    def _probed(self, kind: type[Way], switch: Switch) -> tuple[Way, None] | tuple[None, Exception]:
        """The way, or why its probe failed. Raises what no other way could help against: a server that is slow or busy
        now would later be asked in a worse way than it can be."""
        way = kind(self.config, self.labels, self.instruction, self.shots, self.server, self.window, switch)
        try:
            way.probe()
        except (AnnotatorError, *MALFORMED) as error:
            way.close()
            if isinstance(error, AnnotatorUnavailable | Hangs | Busy) or _denied(error):
                raise
            return None, error
        return way, None


def _denied(error: Exception) -> bool:
    """Whether the server refused the key: then no other way can work either."""
    return isinstance(error, Refused) and error.status in (401, 403)
