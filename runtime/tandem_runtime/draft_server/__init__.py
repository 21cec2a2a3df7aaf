"""A draft server: keeps the contexts of many requests and says what each may go on with (`tandem.draft.v1`).

`contexts` and `work` are plain Python; an engine does the drafting behind the interface in `engines`.
"""
