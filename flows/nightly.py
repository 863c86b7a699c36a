"""Close one data date: raw logs in, a published table of recommendations out.

Reads landing/, writes the lake. Requires nothing but the settings and the mapping that it names.
"""

from datetime import date
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from tasks import steps
from tasks.night import Night, Outcome
from tasks.shop import open_shop


def run_name() -> str:
    """What the run is called in Prefect's UI."""
    return f"nightly {flow_run.parameters.get('ds') or 'of the newest date'}"


@flow(
    name="nightly",
    flow_run_name=run_name,
    persist_result=False,
    log_prints=False,
    on_failure=[steps.tell_failure],
)
def nightly(
    ds: date | None = None,
    settings: Path | None = None,
    mapping: str | None = None,
    landing: str | Path | None = None,
    lake: str | Path | None = None,
) -> Outcome:
    """Run the night of `ds` (default: the newest date whose files have all arrived).

    Raises a NightrankError where the night failed; one that is held is an outcome.
    """
    shop = open_shop(settings, mapping, landing, lake)
    night = steps.begin(shop, ds)
    try:
        night = night if night.decision else through(night)
    except Exception as error:
        steps.fail(night, error)
        raise
    except BaseException as why:  # Ctrl-C, or a run that was cancelled
        steps.stop(night, why)
        raise
    return steps.close(night)


def through(night: Night) -> Night:
    """The stages of a night, in order."""
    night = steps.ingest(night)
    night = steps.check(night, "clean")
    night = steps.build_features(night)
    night = steps.check(night, "features")
    night = steps.estimate(night)
    for model in night.shop.settings.train.models:
        night = steps.train_or_skip(night, model)
    night = steps.fall_back(night)
    if night.decision:  # so far it came before, too
        return night
    for trained in night.trained:
        night = steps.score_or_skip(night, trained.model)
    night = steps.score_fallback(night)
    night = steps.make_release(night)
    night = steps.compare(night)
    night = steps.check(night, "serve")
    return steps.publish(night)
