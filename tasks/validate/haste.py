"""What Great Expectations need not do again and again; results are the same.

A suite's checks are two hundred small questions, and DuckDB answers them in a tenth of the time
that went into making each check's configuration from scratch, fifty times, and into writing the
context's as YAML after every table. Loads Great Expectations: import it late.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from great_expectations.data_context.data_context.ephemeral_data_context import (
    EphemeralDataContext,
)
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration


@contextmanager
def remembered() -> Iterator[None]:
    """In this block an expectation's configuration is made once, and copied when asked for."""
    usual = vars(Expectation)["configuration"]
    made: dict[
        int, tuple[Expectation, ExpectationConfiguration]
    ] = {}  # holds them: ids stay theirs

    def configuration(self: Expectation) -> ExpectationConfiguration:
        if id(self) not in made:
            made[id(self)] = (self, usual.fget(self))
        return _copy(made[id(self)][1])

    setattr(Expectation, "configuration", property(configuration))  # noqa: B010
    try:
        yield
    finally:
        setattr(Expectation, "configuration", usual)  # noqa: B010


def _copy(known: ExpectationConfiguration) -> ExpectationConfiguration:
    """Another with the same values: who fills in parameters changes its own."""
    return ExpectationConfiguration(
        type=known.type,
        kwargs=dict(known.kwargs),
        meta=known.meta,
        notes=known.notes,
        description=known.description,
        severity=known.severity,
        id=known.id,
        rendered_content=known.rendered_content,
    )


def unsaved(context: EphemeralDataContext) -> EphemeralDataContext:
    """The context, which no longer writes itself down: it ends with the pass."""
    vars(context)["_save_project_config"] = lambda: None
    return context
