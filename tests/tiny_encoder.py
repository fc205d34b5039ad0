"""A real, tiny BERT with random weights and a vocabulary of its own: what transformers loads, in milliseconds."""

from __future__ import annotations

from pathlib import Path

import pytest

WORDS = ("who", "what", "where", "when", "how", "many", "is", "the", "a", "of", "in", "city", "man", "year", "name",
         "does", "mean", "number", "person", "town")  # fmt: skip


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp("tiny")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (directory / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(directory)
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer({word: n for n, word in enumerate(vocabulary)})
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(directory)  # fmt: skip
    return directory
