"""The model behind FastAPI on uvicorn, as fast as the two allow: raw bytes in and out, no threads, uvloop, httptools.

python benchmarks/peers/fastapi_server.py PACKAGE PORT
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response
from session import Net, pixels


def main(package: Path, port: int) -> None:
    """Serves until a signal."""
    net, app = Net(package), FastAPI()

    @app.get("/ping")
    def ping() -> dict[str, str]:
        return {}

    @app.post("/invocations")
    async def invocations(request: Request) -> Response:
        return Response(net(pixels(await request.body())).tobytes(), media_type="application/octet-stream")

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


if __name__ == "__main__":
    # Annotations of the handlers are read where they are defined: FastAPI needs them as names of this module.
    main(Path(sys.argv[1]), int(sys.argv[2]))
