# syntax=docker/dockerfile:1

FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements.lock requirements-run.lock ./
# What building needs (hatchling, Node.js for the web pages) stays in this stage.
RUN python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r requirements.lock
RUN python -m venv /opt/laurel && /opt/laurel/bin/pip install --require-hashes -r requirements-run.lock
COPY . .
RUN /opt/build/bin/python -m app.web.build \
    && /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/laurel/bin/pip install --no-deps /wheels/laurel-*.whl

FROM python:3.13-slim
RUN useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin laurel \
    && install -d -o laurel -g laurel -m 0700 /data
COPY --from=build /opt/laurel /opt/laurel
ENV PATH=/opt/laurel/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LAUREL_DATA_DIR=/data \
    LAUREL_HOST=0.0.0.0 \
    LAUREL_LOG_FORMAT=json
USER laurel
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ.get(\"LAUREL_PORT\", 8000)}/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["laurel"]
CMD ["serve"]
