"""The command that writes a JSON Schema of the package anew."""

from __future__ import annotations


def command(module: str, function: str, file: str) -> str:
    """One line for a shell at the root of the repository.

    Args:
        module: Where `function` stands.
        function: Function that makes the schema.
        file: File of the package that holds it.
    """
    text = "json.dumps(schema(), indent=1, ensure_ascii=False) + chr(10)"
    made = f"from {module} import {function} as schema"
    return f"""run: python -c "import json, pathlib; {made}; pathlib.Path('{file}').write_text({text}, 'utf-8')" """
