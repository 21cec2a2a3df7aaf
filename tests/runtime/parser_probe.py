"""Runs inside the engine environment: has vLLM's own parser read command lines, one JSON list each on standard input.

Prints one JSON list for `test_engine_flags`: what is wrong with each line, empty where it is accepted; then the names
of the parsers that vLLM has for answers, which its command line takes unseen.
"""

import contextlib
import io
import json
import sys

from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser


def complaint(arguments: list[str]) -> str:
    """What the parser says against a command line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            validate_parsed_serve_args(PARSER.parse_args(arguments))
    except SystemExit:
        return said.getvalue().splitlines()[-1]
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


PARSER = make_arg_parser(FlexibleArgumentParser())
complaints = [complaint(json.loads(line)) for line in sys.stdin if line.strip()]
known = {
    "reasoning-parser": ReasoningParserManager.list_registered(),
    "tool-call-parser": ToolParserManager.list_registered(),
}
sys.stdout.write(json.dumps({"complaints": complaints, "known": known}) + "\n")
