"""Reading a posted form's fields."""

from collections.abc import Mapping, Sequence

Form = Mapping[str, Sequence[str]]


def one_of(form: Form, name: str) -> str:
    """Return a field's first value, empty if it was not sent."""
    return next(iter(form.get(name, [])), "")


def all_of(form: Form, name: str) -> list[str]:
    """Return every value of a field that says something."""
    return [value for value in form.get(name, []) if value]
