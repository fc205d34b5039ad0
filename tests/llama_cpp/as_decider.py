"""Write a chat model's GGUF file anew as that of a decision model, which llama.cpp serves at /v1/systemone: IN OUT.

The weights stay as they are, so it decides no better than the chat model; the metadata is what llama.cpp looks for.
"""

import sys

import gguf
from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

TEMPLATE = """<|im_start|>user
{{ instructions }}
{% for option in options %}{{ "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[loop.index0] }}. {{ option.key }}\
{% if option.description %}: {{ option.description }}{% endif %}
{% endfor %}Text: {{ state }}
Answer with the letter.<|im_end|>
<|im_start|>assistant
"""

reader = gguf.GGUFReader(sys.argv[1])
architecture = reader.fields["general.architecture"].contents()
text = gguf.GGUFValueType.STRING
new = {
    f"{architecture}.decision.type": MetadataDetails(text, "openjev"),  # one letter for each option
    "tokenizer.chat_template.systemone": MetadataDetails(text, TEMPLATE),
}
copy_with_new_metadata(reader, gguf.GGUFWriter(sys.argv[2], arch=architecture), new, [])
