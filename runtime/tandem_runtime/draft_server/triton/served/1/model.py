"""The model that Triton's Python backend loads. Everything it does is in `tandem_runtime.draft_server.triton`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as backend

from tandem_runtime.draft_server.triton.frames import COUNTS, ROWS, TOKENS, joined
from tandem_runtime.draft_server.triton.onnx_engine import OnnxEngine
from tandem_runtime.draft_server.triton.served_model import Settings
from tandem_runtime.draft_server.triton.serving import Reply, Serving


class TritonPythonModel:
    """What the backend calls."""

    def initialize(self, arguments: dict[str, str]) -> None:
        given = json.loads(arguments["model_config"])["parameters"]
        settings = Settings.of({name: value["string_value"] for name, value in given.items()})
        folder = Path(arguments["model_repository"]) / arguments["model_version"]
        self._serving = Serving(OnnxEngine(folder, settings.shape, caches=settings.caches))

    def execute(self, requests: Sequence[Any]) -> None:
        for request in requests:
            rows, tokens = (_input(request, name) for name in (ROWS, TOKENS))
            reply = _reply_by(request.get_response_sender())
            self._serving.take(int(request.request_id()), rows, tokens, reply=reply)

    def finalize(self) -> None:
        self._serving.close()


def _input(request: Any, name: str) -> Any:
    return backend.get_input_tensor_by_name(request, name).as_numpy().tolist()


def _reply_by(sender: Any) -> Reply:
    final = backend.TRITONSERVER_RESPONSE_COMPLETE_FINAL

    def send_drafts(drafts: Sequence[Sequence[int]]) -> None:
        counts = backend.Tensor(COUNTS, np.array([len(draft) for draft in drafts], np.int32))
        sender.send(backend.InferenceResponse([counts, backend.Tensor(TOKENS, np.asarray(joined(drafts)))]), final)

    def send_failure(message: str) -> None:
        sender.send(backend.InferenceResponse(error=backend.TritonError(message)), final)

    return Reply(send_drafts, send_failure)
