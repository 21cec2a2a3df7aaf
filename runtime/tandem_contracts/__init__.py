"""What the operator and the data plane must agree on: the only code that both import.

Constants and plain types, without any third-party import, and without input or output but for `model_reader`, since
the inspect Job and `tandem plan --model` must read a folder in the same way. A change here changes the
contract between an operator and engines of another version, so names and numbers are only ever added.
"""
