"""The fit, on all cores that this process was given, or on a Dask cluster.

What runs in parallel is said from outside, by joblib's configuration, and not by the estimator's
own `n_jobs`: the cores are no part of a model, and would be part of its bytes. Threads are asked
for, because in a Celery worker's child, which is a daemon, joblib's processes fall back to one core
in silence. A forest's threads leave Python for most of the fit.
"""

import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Final

import joblib
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline as Steps
from threadpoolctl import threadpool_limits

from shared.failures import WillNotPass, WillPass
from shared.scoring import Floats
from shared.settings import Settings

_FIT_FAILURES: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
_CONNECT_SECONDS = 10
_WORKERS_SECONDS = 60


def fit(
    model: Steps,
    rows: pd.DataFrame,
    target: NDArray,  # type: ignore[type-arg]
    weights: Floats | None,
    settings: Settings,
) -> float:
    """Fit a model in place; returns the seconds that it took.

    Args:
        model: its last step is the estimator, which alone is fitted in parallel.
        rows: of shape (n_rows, n_columns).
        target: of shape (n_rows,).
        weights: how much each row counts, of shape (n_rows,); None: all the same.

    Raises:
        WillPass, WillNotPass: as `parallel` does.
    """
    keywords = {} if weights is None else {"sample_weight": weights}
    started = time.perf_counter()
    features = model[:-1].fit_transform(rows, target)
    with parallel(settings):
        model[-1].fit(features, target, **keywords)
    _forget_threads(model[-1])
    return time.perf_counter() - started


def is_of_the_fit(error: Exception, model: Steps) -> bool:
    """Whether the estimator itself failed, by an error of Python's or of its own package."""
    package = type(model.named_steps["estimator"]).__module__.partition(".")[0]
    return isinstance(error, _FIT_FAILURES) or type(error).__module__.partition(".")[0] == package


def _forget_threads(estimator: BaseEstimator) -> None:
    """Boosting keeps their number in its bins: the one thing that depends on the cores."""
    bins = getattr(estimator, "_bin_mapper", None)
    if bins is not None:
        bins.set_params(n_threads=None)


@contextmanager
def parallel(settings: Settings) -> Iterator[None]:
    """Spread joblib's tasks over threads, or over the Dask cluster of TRAINER_DASK_SCHEDULER.

    Here TRAINER_CORES are used, or all cores that this process may use. Linear algebra gets one:
    its sums depend on the number of threads in their last digits.

    Raises:
        WillPass: the cluster does not answer, none of its workers does, or they are lost.
        WillNotPass: the extra packages for Dask are not installed.
    """
    cores = settings.trainer_cores or joblib.cpu_count()
    with (
        threadpool_limits({"openmp": cores, "blas": 1}),
        _cluster(settings.trainer_dask_scheduler)
        if settings.trainer_joblib_backend == "dask"
        else joblib.parallel_config(backend="threading", n_jobs=cores),
    ):
        yield


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """All workers of the cluster. They need the packages that the trainer has."""
    try:
        from distributed import Client, KilledWorker
        from distributed.comm.core import CommClosedError
    except ImportError:
        raise WillNotPass(
            "TRAINER_JOBLIB_BACKEND=dask needs trimtab[dask]: install it where the trainer runs"
        ) from None

    try:
        client = Client(  # type: ignore[no-untyped-call]
            address, timeout=_CONNECT_SECONDS, set_as_default=False
        )
    except (OSError, TimeoutError) as error:
        raise WillPass(f"TRAINER_DASK_SCHEDULER: {address} does not answer: {error}") from None
    try:
        with client, client.as_current(), joblib.parallel_config(backend="dask", n_jobs=-1):
            client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
            yield
    except (CancelledError, CommClosedError, KilledWorker, TimeoutError) as error:
        raise WillPass(f"TRAINER_DASK_SCHEDULER: {address} has failed: {error}") from error
