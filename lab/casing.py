"""How requests, states and templates spell the same names."""

from __future__ import annotations

import json
from typing import Any


def recased(value: Any, shape: Any, *, to_boto: bool) -> Any:
    """`value` with the keys of structures spelled as boto spells them, or as Step Functions does: in PascalCase.

    Keys of maps are data and stay; what a structure does not know stays too, so that the service can refuse it.
    """
    kind = getattr(shape, "type_name", None)
    if kind == "structure" and isinstance(value, dict):
        known = {name.lower(): name for name in shape.members}
        result = {}
        for key, item in value.items():
            name = known.get(key.lower())
            spelled = key if name is None else name if to_boto else name[0].upper() + name[1:]
            result[spelled] = recased(item, shape.members[name], to_boto=to_boto) if name else item
        return result
    if kind == "list" and isinstance(value, list):
        return [recased(item, shape.member, to_boto=to_boto) for item in value]
    if kind == "map" and isinstance(value, dict):
        return {key: recased(item, shape.value, to_boto=to_boto) for key, item in value.items()}
    if kind == "blob" and to_boto and isinstance(value, (dict, list, str)):
        return (value if isinstance(value, str) else json.dumps(value)).encode()
    return value


def requested(client: Any, operation: str, given: dict[str, Any]) -> dict[str, Any]:
    """`given` spelled as `client.<operation>` wants it."""
    meta = client.meta
    shape = meta.service_model.operation_model(meta.method_to_api_mapping[operation]).input_shape
    spelled: dict[str, Any] = recased(given, shape, to_boto=True)
    return spelled
