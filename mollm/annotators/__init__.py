"""The panel's annotators: one LLM runtime a file. A new runtime is one new file with one `Annotator` subclass."""
