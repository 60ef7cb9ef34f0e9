"""Serve what a channel serves: `python -m stages.publish.serving production`, and `pointsman serve`.

The policy runs on the CPU, all questions in one batch, or by vLLM on GPUs (`--engine vllm`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from stages.publish.serving.options import parse_options
from stages.shared.entry import run_stage
from stages.shared.params import Params
from stages.shared.workspace import Workspace


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and serve; return the exit code."""
    options, path = parse_options(argv)

    def _work(params: Params, workspace: Workspace) -> None:
        from stages.publish.channels import check_name
        from stages.publish.promotion import open_desk
        from stages.publish.serving.access import KEY_ENV, Access
        from stages.publish.serving.server import serve

        check_name(options.channel)
        access = Access(os.environ.get(KEY_ENV), options.host)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        for chatty in ("httpx", "uvicorn", "botocore", "urllib3"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        with open_desk(params, workspace) as desk:
            serve(options, desk, access)

    return run_stage("serve", _work, ["--params", str(path)])


if __name__ == "__main__":
    raise SystemExit(main())
