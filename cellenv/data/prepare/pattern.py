"""File names as a source of metadata: '{plate}/{well}_s{site}_w{channel}*.tif'."""

import re

NAMES = {"batch": "[^/]+?", "plate": "[^/]+?", "well": "[^/_]+?", "site": "[^/_]+?", "channel": "[^/]+?"}


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Regular expression of a pattern, for whole paths with forward slashes; case counts, except in the extension.

    {batch}, {plate}, {well}, {site} and {channel} stand for the shortest part that fits, without slashes, well and site
    without underscores too, and the same wherever a name occurs twice; * for any part, also an empty one.

    Raises:
        ValueError: if the pattern has no {well}, or names something else.
    """
    stem, dot, extension = pattern.rpartition(".")
    parts, seen = [], set()
    for text, name in re.findall(r"([^{}]*)(?:\{([^{}]*)\})?", stem + dot):
        parts.append(".*?".join(map(re.escape, text.split("*"))).replace(".*?", "[^/]*?"))
        if name and name not in NAMES:
            raise ValueError(f"--pattern {pattern!r} names {{{name}}}; it may name {', '.join(NAMES)}")
        if name:
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{NAMES[name]})")
            seen.add(name)
    if "well" not in seen:
        raise ValueError(
            f"--pattern {pattern!r} needs {{well}}, as '{{plate}}/{{well}}_s{{site}}_w{{channel}}*.tif' has"
        )
    return re.compile("".join(parts) + f"(?i:{re.escape(extension)})")
