"""Shapes of JSON values: which members there are and of what types, whatever the values.

An object's shape is an object of shapes; an array's is a list that holds the merged shape of its elements, or
nothing; a scalar's is the name of its type. A member that some elements of an array lack ends in "?"."""

SCALARS = {str: "str", bool: "bool", int: "int", float: "number", type(None): "null"}


def shape(value):
    """The shape of a JSON value."""
    if isinstance(value, dict):
        return {key: shape(member) for key, member in value.items()}
    if isinstance(value, list):
        merged = None
        for number, element in enumerate(value):
            merged = _merge(merged, shape(element)) if number else shape(element)
        return [] if merged is None else [merged]
    return SCALARS[type(value)]


def _merge(one, other):
    """One shape for two elements of an array."""
    if isinstance(one, dict) and isinstance(other, dict):
        members = {}
        for key in dict.fromkeys(key.rstrip("?") for key in [*one, *other]):
            found = [side.get(key, side.get(key + "?")) for side in (one, other)]
            optional = None in found or key + "?" in one or key + "?" in other
            present = [member for member in found if member is not None]
            members[key + "?" * optional] = _merge(present[0], present[-1])
        return members
    if isinstance(one, list) and isinstance(other, list):
        return [_merge(one[0], other[0])] if one and other else one or other
    if one == other:
        return one
    kinds = set(one.split("|") if isinstance(one, str) else ["any"]) | set(other.split("|") if isinstance(other, str) else ["any"])
    return "|".join(sorted(kinds))


def differences(wanted, seen, where="return"):
    """What is missing from shape `seen`, or of another type than in `wanted`, in words; more members are no difference."""
    if isinstance(wanted, str):
        kinds = wanted.split("|")
        if "any" in kinds or (isinstance(seen, str) and set(seen.split("|")) & set(kinds)):
            return []
        if seen == "int" and "number" in kinds:
            return []
        return [f"{where} is {describe(seen)}, not {wanted}"]
    if isinstance(wanted, list):
        if not isinstance(seen, list):
            return [f"{where} is {describe(seen)}, not an array"]
        return differences(wanted[0], seen[0], where + "[]") if wanted and seen else []
    if not isinstance(seen, dict):
        return [f"{where} is {describe(seen)}, not an object"]
    found = []
    for key, member in wanted.items():
        name = key.rstrip("?")
        present = seen.get(name, seen.get(name + "?"))
        if present is not None:
            found += differences(member, present, f"{where}.{name}")
        elif not key.endswith("?"):
            found.append(f"{where}.{name} is missing")
    return found


def describe(value):
    """The kind of a shape."""
    return "an object" if isinstance(value, dict) else "an array" if isinstance(value, list) else value
