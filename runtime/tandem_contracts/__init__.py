"""What the operator and the data plane must agree on: the only code that both import.

Constants and plain types, without any third-party import, without input or output. A change here changes the
contract between an operator and engines of another version, so names and numbers are only ever added.
"""
