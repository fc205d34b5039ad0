"""Whether texts are English, about how many tokens they have, and what is kept of those that are too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mollm.languages import language, share_not_english, shortened, tokens_about

ENGLISH = ["My order has not arrived yet, can you tell me where it is?", "How do I change the password of my account?",
           "The film was far too long and I left before the end.", "What is the capital of Australia?"]  # fmt: skip
OTHER = {
    "German": "Meine Bestellung ist noch nicht angekommen, können Sie mir sagen, wo sie ist?",
    "French": "Ma commande n'est pas encore arrivée, pouvez-vous me dire où elle est ?",
    "Spanish": "Mi pedido todavía no ha llegado, ¿me puede decir dónde está?",
    "Italian": "Il mio ordine non è ancora arrivato, mi può dire dove si trova?",
    "Portuguese": "O meu pedido ainda não chegou, você pode me dizer onde está?",
    "Dutch": "Mijn bestelling is nog niet aangekomen, kunt u mij zeggen waar het is?",
    "Swedish": "Min beställning har inte kommit fram än, kan du säga var den är?",
    "Polish": "Moje zamówienie jeszcze nie dotarło, czy może mi pan powiedzieć, gdzie jest?",
    "Turkish": "Siparişim henüz gelmedi, nerede olduğunu bana söyler misiniz, çok geç oldu?",
    "Russian": "Мой заказ ещё не пришёл, можете сказать, где он?",
    "Chinese": "我的订单还没有到，你能告诉我它在哪里吗？",
    "Japanese": "注文がまだ届いていません。どこにあるか教えていただけますか。",
    "Thai": "คำสั่งซื้อของฉันยังไม่มาถึง",
    "Arabic": "لم يصل طلبي بعد، هل يمكنك إخباري أين هو؟",
    "Hindi": "मेरा ऑर्डर अभी तक नहीं आया है",
}


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_english(text: str) -> None:
    assert language(text) == "English"


@pytest.mark.parametrize("name", OTHER)
def test_other_languages_are_not(name: str) -> None:
    assert language(OTHER[name]) == "other"


@pytest.mark.parametrize("text", ["", "12345", "ok", "Samsung Galaxy S21 128GB", "https://example.org/?q=1"])
def test_what_tells_nothing_is_unknown_and_does_not_count(text: str) -> None:
    assert language(text) == "unknown"
    assert share_not_english([text]) == 0
    assert share_not_english([text, *OTHER.values()]) == 1


def test_the_share_is_of_the_texts_that_tell() -> None:
    assert share_not_english([*ENGLISH, *list(OTHER.values())[:4], "ok"]) == 0.5


def test_tokens_of_scripts_without_blanks_are_letters() -> None:
    assert tokens_about("") == 0
    assert tokens_about(OTHER["Chinese"]) == pytest.approx(len(OTHER["Chinese"]) - 2 * 0.75)  # its two marks
    assert tokens_about(ENGLISH[0]) == len(ENGLISH[0]) / 4


def test_short_texts_are_kept_and_long_ones_get_one_length() -> None:
    short, long, longer = "A short text.", "word " * 100, "other words " * 1000
    first, second, third = shortened([short, longer, long], 53.25)
    assert first == short
    assert second == "other words " * 8 + "..."
    assert third == "word " * 20 + "..."
    assert shortened([short, long], 1000) == [short, long]
    assert shortened([], 10) == []


def test_letters_of_other_scripts_take_more_room_and_a_long_word_is_cut() -> None:
    chinese = OTHER["Chinese"]
    assert shortened([chinese], 10) == [chinese[:10] + " ..."]
    assert shortened(["x" * 100], 10) == ["x" * 40 + " ..."]
    assert shortened(["", "x" * 100], 0) == ["", " ..."]


@given(st.lists(st.text()), st.floats(0, 50))
def test_what_is_kept_is_a_beginning_and_fits(texts: list[str], tokens: float) -> None:
    kept = shortened(texts, tokens)
    spent = 0.0
    for text, left in zip(texts, kept, strict=True):
        whole = left.removesuffix(" ...") if left != text else text
        assert text.startswith(whole)
        spent += sum(0.25 if letter.isascii() else 1 for letter in whole)
    assert spent <= tokens + 1e-9
