# syntax=docker/dockerfile:1
# Three stages: fetch (the only one with a network; every file is checked against the hashes of
# the lock), install (from those files alone), run (neither build tools nor development packages).
# No registry is named: pip's own configuration says where packages come from.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS fetch
WORKDIR /src
COPY requirements/base.txt requirements/build.txt requirements/
# Faust and aiokafka are far slower without their compiled parts: wheels, not sources, where the
# lock has them.
RUN pip wheel --no-cache-dir --no-deps --prefer-binary --require-hashes \
        --wheel-dir /wheels --requirement requirements/base.txt \
    && pip install --no-cache-dir --require-hashes --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY billing_stream billing_stream
COPY agents agents
COPY tables tables
COPY web web
# The pages that messages name.
COPY docs/*.md docs/
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --no-index --wheel-dir /wheels .

FROM python:${PYTHON} AS install
COPY --from=fetch /wheels /wheels
# Without pip in it: nothing can be installed at run time. Compiled here, as the root is read-only.
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-cache-dir --no-index --no-deps --compile \
        /wheels/*.whl \
    && pip --python /venv/bin/python check

FROM python:${PYTHON} AS run
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="billing-stream" \
      org.opencontainers.image.description="Billing for merchants of an app store platform, exactly once, on Kafka" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
# The folder is made here so that a new volume gets its owner.
RUN groupadd --system --gid 10001 billing \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /data \
        --shell /usr/sbin/nologin billing \
    && install --directory --owner 10001 --group 10001 --mode 0750 /data
COPY --from=install /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    BILLING_DATA_DIR=/data
WORKDIR /data
# As numbers: Kubernetes cannot tell that a name is not root.
USER 10001:10001
VOLUME /data
EXPOSE 8000 8001 8002 9108
# Process 1 is the worker itself, without a shell or an init before it: it handles SIGTERM from its
# first moment, and has no children.
STOPSIGNAL SIGTERM
# Whether it lives, not whether it is ready: engines that restart what is unhealthy must not do so
# while it recovers.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-m", "billing_stream.observability.probe", "health"]
ENTRYPOINT ["billing-stream"]
CMD ["worker"]
