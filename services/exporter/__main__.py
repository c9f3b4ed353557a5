"""`python -m services.exporter`: serve the figures until told to end."""

import signal
import sys

from services.exporter.server import serve
from shared.logs import refuse_to_start, start_logging
from shared.pipeline import PipelineError
from shared.settings import SettingsError, settings


def main() -> None:
    """Run the exporter with the settings of the environment."""
    # A container's first process ignores SIGTERM unless it says what to do.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    start_logging()
    try:
        serve(settings())
    except (SettingsError, PipelineError) as error:
        refuse_to_start(error)
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
