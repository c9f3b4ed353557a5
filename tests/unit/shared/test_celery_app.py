"""What the application has to be told so that no message is lost, kept for ever or trusted."""

import pytest

from shared.celery_app import celery_app
from shared.events import STAGES
from shared.settings import Settings, read_settings


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("REDIS_URL", "redis://localhost:1/0")
    monkeypatch.setenv("MONGODB_URI", "mongodb://localhost:1/")
    return read_settings()


def test_a_message_comes_again_only_after_its_task_was_ended(current: Settings) -> None:
    configuration = celery_app(lambda: current).conf
    invisible = configuration.broker_transport_options["visibility_timeout"]
    assert invisible > configuration.task_time_limit > configuration.task_soft_time_limit


def test_a_message_is_acknowledged_when_its_task_is_done(current: Settings) -> None:
    configuration = celery_app(lambda: current).conf
    assert configuration.task_acks_late
    assert configuration.task_reject_on_worker_lost
    assert configuration.worker_prefetch_multiplier == 1
    assert configuration.worker_cancel_long_running_tasks_on_connection_loss


def test_no_results_are_kept(current: Settings) -> None:
    configuration = celery_app(lambda: current).conf
    assert configuration.task_ignore_result
    assert configuration.result_backend is None


def test_a_worker_waits_for_its_broker_for_ever(current: Settings) -> None:
    configuration = celery_app(lambda: current).conf
    assert configuration.broker_connection_retry_on_startup
    assert configuration.broker_connection_max_retries is None


def test_only_json_is_read_and_only_from_the_stages_queues(current: Settings) -> None:
    configuration = celery_app(lambda: current).conf
    assert configuration.accept_content == ["json"]
    assert [queue.name for queue in configuration.task_queues] == list(STAGES)
    assert not configuration.task_create_missing_queues


def test_nothing_makes_the_broker_client_reconnect_by_itself(current: Settings) -> None:
    """Its PubSub would then block the worker's loop for ever (see test_deaf_worker.py)."""
    options = celery_app(lambda: current).conf.broker_transport_options
    assert "retry_on_timeout" not in options
