# The base of both stages: Python 3.11 or newer with venv, on Debian.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
RUN command -v cc >/dev/null \
    || { apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; }
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY dispatchd dispatchd
# pip stays behind in a venv of its own; grep fails the build if the modules were not compiled.
RUN python3 -m venv /pip \
    && python3 -m venv --without-pip /opt/dispatchd \
    && /pip/bin/pip --python /opt/dispatchd/bin/python install --no-cache-dir . \
    && /opt/dispatchd/bin/dispatchd --version | grep compiled

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="dispatchd" \
      org.opencontainers.image.description="A durable AMQP 0-9-1 message broker" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/dispatchd /opt/dispatchd
ENV PATH=/opt/dispatchd/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The peers of a published port come from the bridge, not from loopback; a file with users does away with guest. All of it
# can be set otherwise.
ENV DISPATCHD_GUEST_FROM_ANYWHERE=true DISPATCHD_CONFIG_FILE_IF_EXISTS=/etc/dispatchd.json
# Group 0 may write too, so that `docker run --user N`, which leaves the group 0, works with a new volume.
RUN useradd --system --uid 10001 --no-create-home --home-dir /data/dispatchd dispatchd \
    && install -d -o dispatchd -g 0 -m 0770 /data /data/dispatchd
COPY docker-entrypoint.sh /usr/local/bin/
# For health checks and scripts that were written for RabbitMQ's image.
RUN cd /usr/local/bin \
    && for tool in rabbitmqctl rabbitmqadmin; do printf '#!/bin/sh\nexec dispatchd %s "$@"\n' $tool > $tool; done \
    && chmod 755 rabbitmqctl rabbitmqadmin \
    && ln -s rabbitmqctl rabbitmq-diagnostics
# No USER: the entry point gives up root by itself, after it has made a mounted volume the user's.
VOLUME /data/dispatchd
EXPOSE 5672 5671 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=15s CMD ["dispatchd", "healthcheck"]
# Arguments to `docker run` add to those in the entry point.
ENTRYPOINT ["docker-entrypoint.sh"]
