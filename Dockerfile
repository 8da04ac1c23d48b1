# The base of both stages: Python 3.11 or newer with venv, on Debian.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
RUN command -v cc >/dev/null \
    || { apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; }
WORKDIR /src
# What changes seldom comes first: a change of the source builds only what is below it. pip stays behind in a venv of its own.
COPY requirements.lock requirements-build.lock ./
RUN python3 -m venv /pip \
    && python3 -m venv --without-pip /opt/dispatchd \
    && /pip/bin/pip install --no-cache-dir --only-binary :all: --require-hashes --requirement requirements-build.lock \
    && /pip/bin/pip --python /opt/dispatchd/bin/python install --no-cache-dir --only-binary :all: --no-compile \
        --require-hashes --requirement requirements.lock
COPY pyproject.toml setup.py README.md LICENSE ./
COPY dispatchd dispatchd
# Nothing but the source above: what it is built with and what it needs are there. grep fails the build if the modules
# were not compiled. Left out is what only those who develop the libraries need.
RUN /pip/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel . \
    && /pip/bin/pip --python /opt/dispatchd/bin/python install --no-cache-dir --no-compile --no-deps /wheel/*.whl \
    && cd /opt/dispatchd/lib/python3*/site-packages \
    && find . -name tests -type d -prune -exec rm -r {} + \
    && find . '(' -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.[ch]' -o -name '*.cpp' ')' -delete \
    && rm -rf /opt/dispatchd/include \
    && find . -name '*.so' -exec strip --strip-unneeded {} + \
    && /opt/dispatchd/bin/python -m compileall -q --invalidation-mode unchecked-hash . \
    && /opt/dispatchd/bin/dispatchd --version | grep compiled

FROM ${BASE_IMAGE}
ARG BASE_IMAGE
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="dispatchd" \
      org.opencontainers.image.description="A durable AMQP 0-9-1 message broker" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
ENV PATH=/opt/dispatchd/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The peers of a published port come from the bridge, not from loopback; a file with users does away with guest. All of it
# can be set otherwise.
ENV DISPATCHD_GUEST_FROM_ANYWHERE=true DISPATCHD_CONFIG_FILE_IF_EXISTS=/etc/dispatchd.json
# Group 0 may write too, so that `docker run --user N`, which leaves the group 0, works with a new volume.
# The tools are for health checks and scripts that were written for RabbitMQ's image.
RUN groupadd --gid 10001 dispatchd \
    && useradd --uid 10001 --gid dispatchd --no-create-home --home-dir /data/dispatchd dispatchd \
    && install -d -o dispatchd -g 0 -m 0770 /data /data/dispatchd \
    && cd /usr/local/bin \
    && for tool in rabbitmqctl rabbitmqadmin; do printf '#!/bin/sh\nexec dispatchd %s "$@"\n' $tool > $tool; done \
    && chmod 755 rabbitmqctl rabbitmqadmin \
    && ln -s rabbitmqctl rabbitmq-diagnostics
COPY docker-entrypoint.sh /usr/local/bin/
COPY --from=build /opt/dispatchd /opt/dispatchd
# No USER: the entry point gives up root by itself, after it has made a mounted volume the user's.
VOLUME /data/dispatchd
EXPOSE 5672 5671 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=15s CMD ["dispatchd", "healthcheck"]
# Arguments to `docker run` add to those in the entry point.
ENTRYPOINT ["docker-entrypoint.sh"]
