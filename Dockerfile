# One image a service: `docker build --target SERVICE .`, or all by `docker compose build`.
#
#   runtime ── ingest, drift, trainer, publisher, notifier, beat, flower, exporter, cli
#   debian ─── git-server (only for the demo)
#
# An image holds its own service's dependencies, from requirements/SERVICE.lock with hashes, below
# this project's code, so that an upgrade without new dependencies moves one small layer.

ARG PYTHON=python:3.11.18-slim-bookworm
ARG DEBIAN=debian:12.15-slim

# What makes the environments; nothing of it is in an image but what is copied from it.
FROM ${PYTHON} AS builder
RUN python -m venv --without-pip /opt/trimtab
ENV PIP_PYTHON=/opt/trimtab/bin/python \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore

FROM builder AS code
WORKDIR /source
RUN --mount=type=bind,source=requirements/build.lock,target=/build.lock \
    pip install --require-hashes -r /build.lock
COPY pyproject.toml README.md ./
COPY shared shared
COPY services services
RUN pip install --no-deps --no-build-isolation --no-index --target /app .

FROM builder AS ingest-environment
RUN --mount=type=bind,source=requirements/ingest.lock,target=/lock pip install --require-hashes -r /lock

FROM builder AS drift-environment
RUN --mount=type=bind,source=requirements/drift.lock,target=/lock pip install --require-hashes -r /lock

FROM builder AS trainer-environment
RUN --mount=type=bind,source=requirements/trainer.lock,target=/lock pip install --require-hashes -r /lock

FROM builder AS publisher-environment
RUN --mount=type=bind,source=requirements/publisher.lock,target=/lock pip install --require-hashes -r /lock

FROM builder AS notifier-environment
RUN --mount=type=bind,source=requirements/notifier.lock,target=/lock pip install --require-hashes -r /lock

FROM builder AS beat-environment
RUN --mount=type=bind,source=requirements/beat.lock,target=/lock pip install --require-hashes -r /lock

FROM builder AS flower-environment
RUN --mount=type=bind,source=requirements/flower.lock,target=/lock pip install --require-hashes -r /lock

FROM builder AS exporter-environment
RUN --mount=type=bind,source=requirements/exporter.lock,target=/lock pip install --require-hashes -r /lock

FROM builder AS cli-environment
RUN --mount=type=bind,source=requirements/cli.lock,target=/lock pip install --require-hashes -r /lock

# What all images have in common: an unprivileged user, and where the code is.
FROM ${PYTHON} AS runtime
RUN groupadd --gid 10001 trimtab \
 && useradd --uid 10001 --gid trimtab --no-create-home --home-dir /tmp --shell /usr/sbin/nologin trimtab
ENV PATH=/opt/trimtab/bin:/app/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp \
    LOG_FORMAT=json \
    HEARTBEAT_FILE=/tmp/alive
ARG PYTHON
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Trimtab" \
      org.opencontainers.image.description="A continuous-training loop for tabular models" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.base.name="${PYTHON}"
WORKDIR /app
USER trimtab
# The loop finishes what it has in hand for a while when it hears this (worker_soft_shutdown_timeout).
STOPSIGNAL SIGQUIT

FROM runtime AS ingest
COPY --from=ingest-environment /opt/trimtab /opt/trimtab
COPY --from=code /app /app
CMD ["celery", "--quiet", "-A", "services.ingest.tasks", "worker", "-Q", "ingest", "-n", "ingest@%h", "-c", "2", "-O", "fair", "--without-gossip", "--without-mingle"]

FROM runtime AS drift
COPY --from=drift-environment /opt/trimtab /opt/trimtab
COPY --from=code /app /app
CMD ["celery", "--quiet", "-A", "services.drift.tasks", "worker", "-Q", "drift", "-n", "drift@%h", "-c", "1", "-O", "fair", "--without-gossip", "--without-mingle"]

FROM runtime AS trainer
COPY --from=trainer-environment /opt/trimtab /opt/trimtab
COPY --from=code /app /app
CMD ["celery", "--quiet", "-A", "services.trainer.tasks", "worker", "-Q", "trainer", "-n", "trainer@%h", "-c", "1", "-O", "fair", "--without-gossip", "--without-mingle"]

FROM runtime AS publisher
USER root
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates git openssh-client \
 && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/debconf/* \
 && install -d -o trimtab -g trimtab /var/cache/trimtab
USER trimtab
ENV GIT_CACHE=/var/cache/trimtab/git
COPY --from=publisher-environment /opt/trimtab /opt/trimtab
COPY --from=code /app /app
CMD ["celery", "--quiet", "-A", "services.publisher.tasks", "worker", "-Q", "publisher", "-n", "publisher@%h", "-c", "1", "-O", "fair", "--without-gossip", "--without-mingle"]

FROM runtime AS notifier
COPY --from=notifier-environment /opt/trimtab /opt/trimtab
COPY --from=code /app /app
CMD ["celery", "--quiet", "-A", "services.notifier.tasks", "worker", "-Q", "notifier", "-n", "notifier@%h", "-c", "1", "-O", "fair", "--without-gossip", "--without-mingle"]

FROM runtime AS beat
COPY --from=beat-environment /opt/trimtab /opt/trimtab
COPY --from=code /app /app
STOPSIGNAL SIGTERM
CMD ["celery", "--quiet", "-A", "shared.celery_app", "beat", "-S", "services.ingest.schedule:PipelineScheduler", "--pidfile="]

FROM runtime AS flower
COPY --from=flower-environment /opt/trimtab /opt/trimtab
COPY --from=code /app /app
STOPSIGNAL SIGTERM
CMD ["celery", "-A", "shared.celery_app", "flower", "--address=0.0.0.0", "--port=5555", "--conf=/app/services/flower/configuration.py"]

FROM runtime AS exporter
COPY --from=exporter-environment /opt/trimtab /opt/trimtab
COPY --from=code /app /app
ENV EXPORTER_ADDRESS=0.0.0.0
STOPSIGNAL SIGTERM
CMD ["python", "-m", "services.exporter"]

# The `trimtab` command, for operators; it is the simulated feed as well.
FROM runtime AS cli
USER root
RUN install -d -o trimtab -g trimtab /var/lib/trimtab
USER trimtab
COPY --from=cli-environment /opt/trimtab /opt/trimtab
COPY --from=code /app /app
ENV LOG_FORMAT=text
STOPSIGNAL SIGTERM
ENTRYPOINT ["trimtab"]

# A Git host for the demo: anybody who reaches it may push.
FROM ${DEBIAN} AS git-server
RUN apt-get update \
 && apt-get install -y --no-install-recommends git lighttpd \
 && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/debconf/* \
 && groupadd --gid 10001 git && useradd --uid 10001 --gid git --no-create-home --home-dir /tmp git \
 && git init --quiet --bare --initial-branch=main /srv/git/models.git \
 && git -C /srv/git/models.git config http.receivepack true \
 && git -C /srv/git/models.git config receive.unpackLimit 1 \
 && chown -R git:git /srv/git
COPY --chmod=644 deploy/demo/lighttpd.conf /etc/lighttpd/git.conf
USER git
CMD ["lighttpd", "-D", "-f", "/etc/lighttpd/git.conf"]
