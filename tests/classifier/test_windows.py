"""Windows: short texts stay one whole window, long ones are read from end to end, and what is not read is counted."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mollm.classifier import encoder as module
from mollm.classifier.encoder import Encoder
from mollm.classifier.windows import Framed, Unread, Windows

SHORT = ["who is the man", "what city", "", "how many of the year is the number in a town"]
LONG = "what is the name of the city " * 40  # 280 tokens, in an encoder that takes 32 with their frame


@given(st.integers(2, 50), st.integers(0, 20), st.integers(1, 9), st.integers(0, 600))
def test_windows_cover_a_text_or_say_what_they_leave_out(size: int, overlap: int, most: int, tokens: int) -> None:
    rule = Windows(size, min(overlap, size // 2), most)
    starts = rule.starts(tokens)
    covered = {at for start in starts for at in range(start, min(start + size, tokens))}
    assert len(covered) == tokens - rule.unread(tokens)
    assert len(starts) <= most
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert (starts == [0]) == (tokens <= size or most == 1)
    if len(starts) > 1:
        assert starts[-1] + size == tokens
        assert size * len(starts) <= 2 * tokens  # the cost grows with the text
    if len(starts) < most:
        assert all(b - a <= size - rule.overlap for a, b in itertools.pairwise(starts))


def test_a_frame_is_put_around_every_window() -> None:
    framed = Framed((101,), (102,))
    assert framed.windows([1, 2, 3, 4, 5], Windows(3, 1, 9)) == [[101, 1, 2, 3, 102], [101, 3, 4, 5, 102]]
    assert framed.windows([], Windows(3, 1, 9)) == [[101, 102]]


def test_short_texts_are_embedded_bit_for_bit_as_without_windows(tiny: Path) -> None:
    import torch

    tokenizer, model = Encoder(tiny).load()
    order = sorted(SHORT, key=len)
    with torch.inference_mode():
        batch = tokenizer(order, padding=True, truncation=True, max_length=32, return_tensors="pt")
        hidden = model(**batch, output_hidden_states=True).hidden_states[2:]
        pooled = [module.mean_pool(layer, batch["attention_mask"]) for layer in hidden]
        unit = torch.stack([torch.nn.functional.normalize(layer, dim=1) for layer in pooled], dim=1)
    expected = dict(zip(order, (unit / len(hidden) ** 0.5).numpy(), strict=True))
    np.testing.assert_array_equal(Encoder(tiny).embed(SHORT), [expected[text] for text in SHORT])


def test_the_end_of_a_long_text_counts(tiny: Path) -> None:
    ends = [LONG + "who is the man" * 3, LONG + "where is the town" * 3]
    one, other = Encoder(tiny).embed(ends)
    assert np.abs(one - other).max() > 1e-3
    np.testing.assert_allclose(np.linalg.norm([one, other], axis=(1, 2)), 1, atol=1e-6)
    cut = Encoder(tiny, most=1).embed(ends)
    np.testing.assert_array_equal(cut[0], cut[1])


def test_memory_is_that_of_one_batch_however_long_the_texts(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    encoder, sizes = Encoder(tiny), list[int]()
    forward = encoder._forward
    monkeypatch.setattr(encoder, "_forward", lambda windows: sizes.append(len(windows)) or forward(windows))
    encoder.embed([LONG, *SHORT, LONG * 2, LONG * 9])
    assert max(sizes) == 4


def test_what_is_not_read_is_counted_also_from_the_cache(tiny: Path, tmp_path: Path) -> None:
    texts = [*SHORT, LONG, LONG * 10]  # the last has 2,800 tokens; 16 windows of 30 hold 480
    for encoder in (Encoder(tiny, tmp_path), Encoder(tiny, tmp_path)):
        encoder.embed(texts)
        assert encoder.unread(texts) == Unread(6, 1, 2800 - 480)
    assert "1 of 6 texts" in encoder.unread(texts).line()
    assert encoder.unread(SHORT) == Unread(4, 0, 0)


def test_embeddings_of_another_rule_or_another_encoder_are_not_taken_from_the_cache(tiny: Path, tmp_path: Path) -> None:
    whole = Encoder(tiny, tmp_path)
    vector = whole.embed([LONG + "who"])
    cut = Encoder(tiny, tmp_path, most=1)
    assert cut.fingerprint != whole.fingerprint
    assert np.abs(cut.embed([LONG + "who"]) - vector).max() > 1e-4


def test_an_encoder_in_several_weight_files_is_told_apart_by_each(tmp_path: Path) -> None:
    prints = set()
    for second in (b"a", b"b"):
        (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"first")
        (tmp_path / "model-00002-of-00002.safetensors").write_bytes(second)
        prints.add(Encoder(tmp_path).fingerprint)
    assert len(prints) == 2
