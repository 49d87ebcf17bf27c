"""Doors of the embedded AWS for the lab's own command line: requests that no API of AWS has, JSON in and JSON out.

They lie beside moto's own routes (`/moto-api/lab/…`) and open on loopback alone, as everything here does.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lab.errors import LabError

if TYPE_CHECKING:
    from lab.engine import Engine

ROOT = "/moto-api/lab/"
Answer = tuple[int, dict[str, str], str]


def serve(name: str, handle: Callable[[dict[str, Any]], Any]) -> None:
    """Adds a door to the server's routes. What `handle` raises goes back as the request's error."""
    from moto.moto_api._internal import urls

    def door(request: Any, _url: str, _headers: Any) -> Answer:
        try:
            return 200, {}, json.dumps(handle(json.loads(request.get_data())))
        except LabError as error:
            return 409, {}, json.dumps({"message": error.message, "hint": error.hint})
        except (OSError, ValueError, KeyError, TypeError) as error:
            return 400, {}, json.dumps({"message": f"{type(error).__name__}: {error}", "hint": None})

    urls.url_paths["{0}" + ROOT + name + "$"] = door


def ask(engine: Engine, name: str, request: Any, *, seconds: float = 300.0) -> Any:
    """The answer to a request through a door. Raises LabError with what the server said."""
    body = json.dumps(request).encode()
    asked = urllib.request.Request(engine.endpoint + ROOT + name, body, {"Content-Type": "application/json"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(asked, timeout=seconds) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            said = error.read().decode("utf-8", "replace")
    try:
        found = json.loads(said)
        message, hint = str(found["message"]), found["hint"]
    except (ValueError, KeyError, TypeError):
        message, hint = said[:500], "see server.log in the engine's folder"
    raise LabError(f"the embedded AWS refused: {message}", hint)
