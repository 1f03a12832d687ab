# Builds with hashes only; what runs has neither pip's cache nor the project's tests.
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /venv
COPY requirements/base.txt requirements/base.txt
RUN /venv/bin/pip install --no-cache-dir --require-hashes --requirement requirements/base.txt
# The build tool is pinned by the development lock; only the wheel leaves this stage.
COPY requirements/dev.txt requirements/dev.txt
RUN python -m venv /tools \
    && /tools/bin/pip install --no-cache-dir --require-hashes --requirement requirements/dev.txt
COPY pyproject.toml README.md LICENSE ./
COPY billing_stream billing_stream
COPY agents agents
COPY tables tables
COPY web web
RUN /tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /venv/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home billing \
    && install --directory --owner billing --group billing /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 BILLING_DATA_DIR=/data
USER billing
VOLUME /data
EXPOSE 8000
CMD ["billing-stream", "worker"]
