"""mollm: a mixture of small local LLMs that labels a project and learns from its people.

The core knows no server: it works on arrays, texts and recordings. Its story is `mollm.round.run`.
"""
