"""The Celery application: one queue a stage, JSON only, no result backend.

The settings are read when the application is first used, so importing a task needs none.
"""

from collections.abc import Callable
from typing import Any, Final

from celery import Celery, signals
from kombu import Queue

from shared.authentication import authenticator_of
from shared.events import STAGES
from shared.logs import refuse_to_start, start_logging
from shared.settings import Settings, SettingsError, settings
from shared.transport import use_checked_transport
from shared.watchdog import Watchdog

_VERIFIED: Final = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
"""Without a word of the address Kombu would take any certificate."""


def celery_app(read_settings: Callable[[], Settings]) -> Celery:
    """An application with the settings that will be read."""
    use_checked_transport()
    application = Celery("trimtab")
    application.add_defaults(lambda: _configuration(read_settings()))
    application.steps["consumer"].add(Watchdog)
    return application


def _configuration(current: Settings) -> dict[str, Any]:
    url = current.redis_url.get_secret_value()
    return {
        "broker_url": url,
        "broker_use_ssl": _VERIFIED if url.startswith("rediss://") else None,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "global_keyprefix": current.key_prefix,
            "authenticator": authenticator_of(current),
            "priority_steps": [0],  # one list a queue
            "visibility_timeout": current.visibility_timeout_seconds,
            "health_check_interval": 30,
            "socket_keepalive": True,
            "socket_timeout": 30,
            # Nothing that makes redis-py try again by itself: when the broker is gone, its PubSub
            # would reconnect and block the worker's loop until somebody publishes.
        },
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_ignore_result": True,
        # Kombu's register of bindings would be one for all. Events name the queue that they go to.
        "task_queues": [Queue(stage, no_declare=True) for stage in STAGES],
        "task_create_missing_queues": False,
        "task_default_queue": "ingest",
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_time_limit": current.task_time_limit_seconds,
        "task_soft_time_limit": int(current.task_time_limit_seconds * 0.95),
        "worker_prefetch_multiplier": 1,
        # It would let whoever can publish add queues that have no door, and end or idle workers.
        "worker_enable_remote_control": False,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_soft_shutdown_timeout": 10,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": True,
        "timezone": "UTC",
    }


def _settings_of_program() -> Settings:
    """What Celery asks for before anything else, be the program a worker, beat or Flower.

    So from here on it logs as the settings say, and a wrong setting ends it.
    """
    start_logging()
    try:
        return settings()
    except SettingsError as error:
        refuse_to_start(error)


@signals.setup_logging.connect
def _is_set_up(**_: object) -> None:
    """Without an answer to this signal Celery sets up logging its own way."""


app = celery_app(_settings_of_program)
