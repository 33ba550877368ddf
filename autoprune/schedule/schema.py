"""The JSON Schema of the schedule file, shipped as ``schema.json`` for other tools."""

from __future__ import annotations

from typing import Any

from autoprune.schedule import Schedule


def schedule_schema() -> dict[str, Any]:
    """The schema of version 1; rules that span several fields are checked by `Schedule` alone."""
    schema = Schedule.model_json_schema()
    definitions = schema["$defs"]
    definitions["PluginCriterion"] = {
        "description": "A criterion of an installed package; its options are checked by that package.",
        "properties": {"name": {"type": "string", "pattern": "^[^/]+/[^/]+$"}, "requires": {"type": "string"}},
        "required": ["name"],
        "title": "PluginCriterion",
        "type": "object",
    }
    definitions["Stage"]["properties"]["criterion"]["anyOf"].append({"$ref": "#/$defs/PluginCriterion"})
    for name, part in definitions.items():
        if name.endswith("Criterion") and name != "PluginCriterion":
            part["required"] = ["name", *part.get("required", [])]
    schema["required"] = ["format", "version", "stages"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "autoprune.schedule.v1",
        **schema,
        "title": "autoprune schedule, version 1",
    }
