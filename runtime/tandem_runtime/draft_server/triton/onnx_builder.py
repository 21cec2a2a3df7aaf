"""Collects the parts of an ONNX graph, its weights in a file beside it: the format itself ends at 2 GB."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from onnx import NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto, helper

_ALIGNMENT = 64


class Builder:
    """Names of values are what its methods take and give."""

    def __init__(self, file: BinaryIO, location: str) -> None:
        """`file`: takes the weights; `location`: its path, relative to the graph's own."""
        self._file, self._location = file, location
        self._numbers = itertools.count()
        self.nodes: list[NodeProto] = []
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self.initializers: list[TensorProto] = []

    def input(self, name: str, kind: int, shape: Sequence[int | str]) -> None:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))

    def output(self, name: str, kind: int, shape: Sequence[int | str]) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def node(self, kind: str, *inputs: str, output: str = "", unused: int = 0, **attributes: Any) -> str:
        """`output`: a name of the caller's choice; `unused`: further outputs that the kernel insists on."""
        name = output or f"{kind}_{next(self._numbers)}"
        names = [name, *(f"{name}_{number}" for number in range(unused))]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return name

    def initializer(self, name: str, value: Any) -> str:
        """A weight, as float32."""
        content = np.ascontiguousarray(value, np.float32)
        self._file.write(b"\0" * (-self._file.tell() % _ALIGNMENT))
        where = {"location": self._location, "offset": str(self._file.tell()), "length": str(content.nbytes)}
        self.initializers.append(
            TensorProto(
                name=name,
                dims=content.shape,
                data_type=TensorProto.FLOAT,
                data_location=TensorProto.EXTERNAL,
                external_data=[StringStringEntryProto(key=key, value=text) for key, text in where.items()],
            )
        )
        self._file.write(content.data)
        return name

    def integers(self, *values: int) -> str:
        """A constant list."""
        name = f"integers_{next(self._numbers)}"
        self.initializers.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name
